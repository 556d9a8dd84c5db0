#include "sweep/sweep_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/edit_distance.h"
#include "base/error.h"
#include "base/toml_text.h"

namespace ballast::sweep {
namespace {

struct Leaf {
    std::string field;
    const toml::node* node;
};

class Reader {
  public:
    explicit Reader(const std::string& path) : path_(path), document_(parse_toml(read_file(path), path)) {}

    SweepFile read() {
        check_keys(document_, {"base", "set", "grid", "variant", "evaluate"}, "");
        SweepFile out;
        out.path = path_;
        out.base = base();
        out.set = overrides(document_, "set", "");
        out.grid = axes(document_, "");
        if (const toml::node* node = document_.get("variant")) out.variants = variants(*node);
        load_toml(out.evaluate, "", std::span<const ConfigOverride>(overrides(document_, "evaluate", "evaluate.")));
        return out;
    }

  private:
    [[noreturn]] void refuse(const toml::node& node, std::string_view what) const {
        throw UserError(fmt::format("{}: {}", place_of(node, path_), what));
    }

    void check_keys(const toml::table& table, std::initializer_list<std::string_view> known,
                    std::string_view where) const {
        for (const auto& [key, node] : table)
            if (std::find(known.begin(), known.end(), key.str()) == known.end())
                refuse(node, fmt::format("unknown key {}{}{}; the keys here are {}", where, key.str(),
                                         did_you_mean(key.str(), std::span(known.begin(), known.size())),
                                         fmt::join(known, ", ")));
    }

    std::string base() const {
        const toml::node* node = document_.get("base");
        if (!node)
            throw UserError(
                fmt::format("{}: no base; name the config the cells start from, as in base = "
                            "\"../quickstart/common.toml\" (relative to this file)",
                            path_));
        const auto name = node->value<std::string>();
        if (!name) refuse(*node, "base must name a config file, in quotes");
        const std::filesystem::path path = (std::filesystem::path(path_).parent_path() / *name).lexically_normal();
        std::error_code error;
        if (!std::filesystem::is_regular_file(path, error))
            refuse(*node, fmt::format("base: no file {}; the path is relative to {}", path.string(), path_));
        return path.string();
    }

    /// The table `name` of `parent`, or null when there is none.
    const toml::table* table(const toml::table& parent, std::string_view name) const {
        const toml::node* node = parent.get(name);
        if (node && !node->is_table()) refuse(*node, fmt::format("{} must be a table, as in [{}]", name, name));
        return node ? node->as_table() : nullptr;
    }

    static void collect(const toml::table& table, const std::string& prefix, std::vector<Leaf>& out) {
        for (const auto& [name, node] : table) {
            const std::string key = prefix + std::string(name.str());
            if (const toml::table* inner = node.as_table())
                collect(*inner, key + ".", out);
            else
                out.push_back({key, &node});
        }
    }

    /// Every value below the table `name`, in the file's order (toml++ sorts by name).
    std::vector<Leaf> leaves(const toml::table& parent, std::string_view name) const {
        std::vector<Leaf> out;
        if (const toml::table* found = table(parent, name)) collect(*found, "", out);
        std::sort(out.begin(), out.end(), [](const Leaf& a, const Leaf& b) {
            const auto &x = a.node->source().begin, &y = b.node->source().begin;
            return std::pair(x.line, x.column) < std::pair(y.line, y.column);
        });
        return out;
    }

    std::vector<ConfigOverride> overrides(const toml::table& parent, std::string_view name,
                                          const std::string& prefix) const {
        std::vector<ConfigOverride> out;
        for (const Leaf& leaf : leaves(parent, name))
            out.push_back(
                {fmt::format("{}{}={}", prefix, leaf.field, toml_text(*leaf.node)), place_of(*leaf.node, path_)});
        return out;
    }

    std::vector<Axis> axes(const toml::table& parent, const std::string& where) const {
        std::vector<Axis> out;
        for (const Leaf& leaf : leaves(parent, "grid")) {
            const toml::array* values = leaf.node->as_array();
            if (!values || values->empty())
                refuse(
                    *leaf.node,
                    fmt::format("{}grid.{} must be a list of values, like [1, 2]; what all cells share goes to [set]",
                                where, leaf.field));
            Axis& axis = out.emplace_back(Axis{leaf.field, {}, place_of(*leaf.node, path_)});
            for (const toml::node& value : *values) {
                if (value.is_table())
                    refuse(value, fmt::format("grid.{}: fields that change together are a [[variant]]", leaf.field));
                axis.values.push_back(toml_text(value));
            }
        }
        return out;
    }

    std::vector<Variant> variants(const toml::node& node) const {
        const toml::array* list = node.as_array();
        if (!list || !list->is_array_of_tables()) refuse(node, "write variants as [[variant]], one after another");
        std::vector<Variant> out;
        for (const toml::node& element : *list) {
            const toml::table& variant = *element.as_table();
            check_keys(variant, {"name", "set", "grid"}, "variant.");
            const auto name = variant["name"].value<std::string>();
            if (!name) refuse(variant, "a [[variant]] needs a name, as in name = \"zero_sink\"");
            check_name(*name, *variant.get("name"));
            if (std::any_of(out.begin(), out.end(), [&](const Variant& other) { return other.name == *name; }))
                refuse(*variant.get("name"),
                       fmt::format("a second variant is called {}; give each its own name", *name));
            out.push_back({*name, overrides(variant, "set", ""), axes(variant, "variant."), place_of(variant, path_)});
        }
        return out;
    }

    /// It becomes part of a folder's name.
    void check_name(const std::string& name, const toml::node& node) const {
        constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";
        if (name.empty() || name.front() == '.' || name.find_first_not_of(kAllowed) != std::string::npos)
            refuse(node,
                   fmt::format("variant.name = \"{}\": use letters, digits and _ + - . only; it names a folder", name));
    }

    std::string path_;
    toml::table document_;
};

}  // namespace

void EvaluateConfig::visit(FieldVisitor& v) {
    v.section("evaluate", "What is measured on every trained cell");
    v.field("text", text, "held-out text files (UTF-8), read as one stream; empty: nothing is measured");
    v.field("cache", cache, "total positions of the cache table; 0: half the trained context",
            {.min = 0, .max = 1 << 30});
    v.field("max_tokens", max_tokens, "use only the first tokens of the text; 0: all", {.min = 0});
}

SweepFile load_sweep_file(const std::string& path) { return Reader(path).read(); }

}  // namespace ballast::sweep

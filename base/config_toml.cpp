#include "base/config_toml.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>

#include "base/atomic_file.h"
#include "base/edit_distance.h"
#include "base/error.h"
#include "base/toml_text.h"

namespace ballast {
namespace {

/// A value somebody set, and where.
struct Setting {
    const toml::node* value;
    std::string place;                // "file:line", or the override
    std::optional<std::string> word;  // an override's text as typed
};

/// All settings by dotted key; later ones replace earlier ones.
class Settings {
  public:
    void add_file(const std::string& path);
    void add_text(std::string_view text, const std::string& source) {
        collect(keep(parse_toml(text, source)), "", source);
    }
    void add_override(const ConfigOverride& override);

    const Setting* find(const std::string& key) const {
        const auto found = values_.find(key);
        return found == values_.end() ? nullptr : &found->second;
    }
    /// UserError at the first setting that is none of `keys`, or section that holds none of them.
    void check_known(std::span<const std::string_view> keys) const;

  private:
    const toml::table& keep(toml::table document) { return documents_.emplace_back(std::move(document)); }
    void collect(const toml::table& table, const std::string& prefix, const std::string& source);

    std::deque<toml::table> documents_;  // own the values
    std::map<std::string, Setting> values_;
    std::map<std::string, std::string> sections_;  // key → place
    std::vector<std::filesystem::path> open_files_;
};

void Settings::add_file(const std::string& path) {
    std::error_code ignored;
    const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, ignored);
    if (std::find(open_files_.begin(), open_files_.end(), canonical) != open_files_.end()) {
        throw UserError(
            fmt::format("{} extends itself by way of {}; break the circle", path, open_files_.back().string()));
    }
    open_files_.push_back(canonical);
    toml::table document = parse_toml(read_file(path), path);
    if (const toml::node* base = document.get("extends")) {
        const auto name = base->value<std::string>();
        if (!name) throw UserError(fmt::format("{}:{}: extends must name a file", path, base->source().begin.line));
        add_file((std::filesystem::path(path).parent_path() / *name).string());
        document.erase("extends");
    }
    open_files_.pop_back();
    collect(keep(std::move(document)), "", path);
}

void Settings::add_override(const ConfigOverride& override) {
    const std::string& text = override.text;
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
        throw UserError(fmt::format("{}: write it as section.key=value", override.place));
    }
    const std::string key = text.substr(0, equals), word = text.substr(equals + 1);
    toml::table document;
    try {
        document = toml::parse("v = " + word);
    } catch (const toml::parse_error&) {
        document.clear();
    }
    // Text that is no TOML value, or smuggles in a second line, is a bare word.
    if (document.size() != 1) document.insert_or_assign("v", word);
    values_[key] = {keep(std::move(document)).get("v"), override.place, word};
}

void Settings::collect(const toml::table& table, const std::string& prefix, const std::string& source) {
    for (const auto& [name, node] : table) {
        const std::string key = prefix + std::string(name.str());
        const std::string place = place_of(node, source);
        if (const toml::table* inner = node.as_table()) {
            sections_[key] = place;
            collect(*inner, key + ".", source);
        } else {
            values_[key] = {&node, place, {}};
        }
    }
}

/// A key without its section is the likeliest slip; then typing errors.
std::string suggest(std::string_view key, std::span<const std::string_view> keys) {
    const std::string ending = "." + std::string(key.substr(key.rfind('.') + 1));
    std::vector<std::string_view> same_name;
    std::copy_if(keys.begin(), keys.end(), std::back_inserter(same_name),
                 [&](std::string_view k) { return k.ends_with(ending); });
    if (same_name.size() == 1) return fmt::format("; did you mean {}?", same_name.front());
    return did_you_mean(key, keys);
}

void Settings::check_known(std::span<const std::string_view> keys) const {
    for (const auto& [key, place] : sections_) {
        const auto inside = [&](std::string_view known) { return known.starts_with(key + "."); };
        if (std::any_of(keys.begin(), keys.end(), inside)) continue;
        std::vector<std::string_view> sections;
        for (std::string_view known : keys) sections.push_back(known.substr(0, known.rfind('.')));
        throw UserError(fmt::format("{}: unknown section [{}]{}", place, key, did_you_mean(key, sections)));
    }
    for (const auto& [key, setting] : values_) {
        if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
        throw UserError(fmt::format("{}: unknown key {}{}", setting.place, key, suggest(key, keys)));
    }
}

std::string bounds_text(Bounds bounds) {
    const bool below = std::isfinite(bounds.min), above = std::isfinite(bounds.max);
    if (below && above) return fmt::format("from {} to {}", bounds.min, bounds.max);
    if (below) return fmt::format("at least {}", bounds.min);
    return above ? fmt::format("at most {}", bounds.max) : "a number";
}

/// Puts one setting into one field. An overload for each type a field can have.
class Assign {
  public:
    Assign(const Setting& setting, const std::string& key, Bounds bounds)
        : setting_(setting), key_(key), bounds_(bounds) {}

    void operator()(bool* out) const { *out = get<bool>(*setting_.value, "true or false"); }
    void operator()(int64_t* out) const { *out = whole(*setting_.value); }
    void operator()(double* out) const { *out = real(*setting_.value); }

    void operator()(std::string* out) const {
        if (setting_.word && !setting_.value->is_string())
            *out = *setting_.word;  // --set name=12 is the text 12
        else
            *out = get<std::string>(*setting_.value, "text in quotes");
    }

    void operator()(std::vector<int64_t>* out) const {
        if (setting_.value->is_integer()) return out->assign({whole(*setting_.value)});  // a list of one
        std::vector<int64_t> values;
        for (const toml::node& node : list("a list of whole numbers, like [1, 2]")) values.push_back(whole(node));
        *out = std::move(values);
    }

    void operator()(std::vector<std::string>* out) const {
        constexpr const char* kWanted = R"(a list of texts, like ["a", "b"])";
        std::vector<std::string> values;
        for (const toml::node& node : list(kWanted)) values.push_back(get<std::string>(node, kWanted));
        *out = std::move(values);
    }

    void operator()(const EnumField& out) const {
        const auto& choices = out.choices;
        const std::string wanted = fmt::format("one of {}", fmt::join(choices, ", "));
        const auto name = get<std::string>(*setting_.value, wanted);
        const auto found = std::find(choices.begin(), choices.end(), name);
        if (found == choices.end()) refuse(*setting_.value, wanted + did_you_mean(name, choices));
        out.set_index(static_cast<int>(found - choices.begin()));
    }

  private:
    [[noreturn]] void refuse(const toml::node& node, std::string_view wanted) const {
        throw UserError(fmt::format("{}: {} = {} must be {}", setting_.place, key_, toml_text(node), wanted));
    }

    template <class T>
    T get(const toml::node& node, std::string_view wanted) const {
        const auto value = node.value_exact<T>();
        if (!value) refuse(node, wanted);
        return *value;
    }

    int64_t whole(const toml::node& node) const {
        const auto value = is_whole_real(node) ? static_cast<int64_t>(*node.value<double>())  // 1e6
                                               : get<int64_t>(node, "a whole number");
        check_bounds(node, static_cast<double>(value));
        return value;
    }

    static bool is_whole_real(const toml::node& node) {
        constexpr double kExact = 9007199254740992;  // 2^53: below, a double is the number that was written
        const auto value = node.value_exact<double>();
        return value && *value == std::floor(*value) && std::abs(*value) < kExact;
    }

    double real(const toml::node& node) const {
        const double value =
            node.is_integer() ? static_cast<double>(get<int64_t>(node, "")) : get<double>(node, "a number");
        check_bounds(node, value);
        return value;
    }

    void check_bounds(const toml::node& node, double value) const {
        if (!(bounds_.min <= value && value <= bounds_.max)) refuse(node, bounds_text(bounds_));
    }

    const toml::array& list(std::string_view wanted) const {
        const toml::array* array = setting_.value->as_array();
        if (!array) refuse(*setting_.value, wanted);
        return *array;
    }

    const Setting& setting_;
    const std::string& key_;
    Bounds bounds_;
};

class Loader : public FieldVisitor {
  public:
    explicit Loader(const Settings& settings) : settings_(settings) {}

    void section(std::string_view name, std::string_view) override { section_ = name; }
    std::vector<std::string_view> keys() const { return {keys_.begin(), keys_.end()}; }

  protected:
    void on_field(const Field& field) override {
        const std::string& key = keys_.emplace_back(section_ + "." + std::string(field.name));
        if (const Setting* setting = settings_.find(key)) std::visit(Assign(*setting, key, field.bounds), field.value);
    }

  private:
    const Settings& settings_;
    std::string section_;
    std::deque<std::string> keys_;
};

void apply_settings(const Settings& settings, const VisitFields& visit) {
    Loader loader(settings);
    visit(loader);
    settings.check_known(loader.keys());
}

}  // namespace

std::vector<ConfigOverride> parse_overrides(std::span<const std::string> settings) {
    std::vector<ConfigOverride> overrides;
    for (const std::string& text : settings) overrides.push_back({text, "--set " + text});
    return overrides;
}

void config_detail::load_file(const VisitFields& visit, const std::string& path,
                              std::span<const ConfigOverride> overrides) {
    Settings settings;
    if (!path.empty()) settings.add_file(path);
    for (const ConfigOverride& override : overrides) settings.add_override(override);
    apply_settings(settings, visit);
}

void config_detail::load_text(const VisitFields& visit, std::string_view text, const std::string& source) {
    Settings settings;
    settings.add_text(text, source);
    apply_settings(settings, visit);
}

}  // namespace ballast

#include "sweep/cells.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/error.h"
#include "train/trainer.h"

namespace ballast::sweep {
namespace {

constexpr size_t kLongestName = 200;  // bytes; file systems stop at 255, and temporaries add to it
constexpr size_t kMostCells = 10000;

std::string last_part(const std::string& field) { return field.substr(field.rfind('.') + 1); }

/// A value as part of a folder's name.
std::string name_of_value(const std::string& toml) {
    std::string out;
    for (const char c : toml) {
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
                           c == '_' || c == '-' || c == '+';
        if (plain)
            out += c;
        else if (c != '"' && c != '\'')
            out += '-';
    }
    return out;
}

/// One variant's axes, and how its cells are called.
class Grid {
  public:
    Grid(const SweepFile& file, const Variant* variant) : file_(file), variant_(variant) {
        axes_ = file.grid;
        if (variant) axes_.insert(axes_.end(), variant->grid.begin(), variant->grid.end());
        std::stable_sort(axes_.begin(), axes_.end(),
                         [](const Axis& a, const Axis& b) { return is_seed(a.field) > is_seed(b.field); });
        check_fields();
    }

    size_t size() const {
        size_t count = 1;
        for (const Axis& axis : axes_) {
            count *= axis.values.size();
            if (count > kMostCells)
                throw UserError(fmt::format("{}: the grid has more than {} cells", axis.place, kMostCells));
        }
        return count;
    }

    /// Cells of the same seeds, as many as there are of them: the outermost loop of the sweep.
    size_t seeds() const {
        size_t count = 1;
        for (const Axis& axis : axes_) count *= is_seed(axis.field) ? axis.values.size() : 1;
        return count;
    }

    /// The cell of number `index`, the last axis varying fastest; its config is not loaded yet.
    Cell cell(size_t index, const std::vector<ConfigOverride>& options) const {
        Cell out;
        for (const ConfigOverride& override : file_.set) put(override, out);
        for (const ConfigOverride& override : options) put(override, out);
        if (variant_)
            for (const ConfigOverride& override : variant_->set) put(override, out);
        std::vector<std::string> parts, seeds;
        if (variant_) parts.push_back(variant_->name);
        size_t below = size();
        for (const Axis& axis : axes_) {
            below /= axis.values.size();
            const std::string& value = axis.values[index / below % axis.values.size()];
            put({axis.field + "=" + value, axis.place}, out);
            out.varied.emplace_back(axis.field, value);
            (is_seed(axis.field) ? seeds : parts).push_back(label(axis.field) + "=" + name_of_value(value));
        }
        out.variant = parts.empty() ? "base" : fmt::format("{}", fmt::join(parts, ","));
        parts.insert(parts.end(), seeds.begin(), seeds.end());
        out.name = fmt::format("{}", fmt::join(parts, ","));
        return out;
    }

    /// Where to look when something is wrong with a cell of this grid.
    std::string place() const { return variant_ ? variant_->place : axes_.empty() ? file_.path : axes_.back().place; }

  private:
    /// The last to name a field has it.
    static void put(const ConfigOverride& override, Cell& cell) {
        std::erase_if(cell.overrides, [&](const ConfigOverride& other) { return other.key() == override.key(); });
        cell.overrides.push_back(override);
    }

    /// "seed" for train.seed, the whole field where two end alike.
    std::string label(const std::string& field) const {
        const auto same = std::count_if(axes_.begin(), axes_.end(),
                                        [&](const Axis& axis) { return last_part(axis.field) == last_part(field); });
        return same > 1 ? field : last_part(field);
    }

    /// A field has one place in the grid, and none in what the grid is laid over.
    void check_fields() const {
        std::map<std::string, std::string> seen;
        const auto add = [&](const std::string& field, const std::string& place) {
            const auto [first, fresh] = seen.emplace(field, place);
            if (!fresh)
                throw UserError(
                    fmt::format("{}: {} is set here and at {}; keep one of them", place, field, first->second));
        };
        if (variant_)
            for (const ConfigOverride& override : variant_->set) add(override.key(), override.place);
        for (const Axis& axis : axes_) add(axis.field, axis.place);
        for (const ConfigOverride& override : file_.set)
            if (const auto axis = seen.find(override.key()); axis != seen.end() && is_axis(override.key()))
                throw UserError(fmt::format("{}: {} is set here and in the grid at {}; keep one of them",
                                            override.place, override.key(), axis->second));
    }

    bool is_axis(const std::string& field) const {
        return std::any_of(axes_.begin(), axes_.end(), [&](const Axis& axis) { return axis.field == field; });
    }

    const SweepFile& file_;
    const Variant* variant_;
    std::vector<Axis> axes_;
};

/// --set is for what all cells share.
void refuse_varied(const Grid& grid, const std::vector<ConfigOverride>& options, const SweepFile& file,
                   const Variant* variant) {
    const auto refuse = [](const ConfigOverride& option, const std::string& place) {
        throw UserError(
            fmt::format("{}: the sweep varies {} (at {}); change it there", option.place, option.key(), place));
    };
    for (const ConfigOverride& option : options) {
        for (const auto* axes : {&file.grid, variant ? &variant->grid : nullptr})
            if (axes)
                for (const Axis& axis : *axes)
                    if (axis.field == option.key()) refuse(option, axis.place);
        if (variant)
            for (const ConfigOverride& override : variant->set)
                if (override.key() == option.key()) refuse(option, override.place);
    }
    grid.size();  // refuses too many
}

void load(Cell& cell, const SweepFile& file, const std::string& place) {
    cell.config = train::RunConfig::load_with(file.base, cell.overrides);  // its errors name the line already
    try {
        cell.config.validate();
    } catch (const UserError& error) {
        throw UserError(fmt::format("{}: cell {}: {}", place, cell.name, error.what()));
    }
}

/// Equal names come of a value listed twice, equal configs of two spellings of one thing.
class Distinct {
  public:
    void add(const Cell& cell, const std::string& place) {
        if (cell.name.size() > kLongestName)
            throw UserError(
                fmt::format("{}: the name {}… is too long for a folder; vary fewer fields or shorter values", place,
                            cell.name.substr(0, 60)));
        if (!names_.insert(cell.name).second)
            throw UserError(fmt::format("{}: two cells are called {}; list each value once", place, cell.name));
        const auto [first, fresh] = configs_.emplace(to_toml(cell.config), cell.name);
        if (!fresh)
            throw UserError(fmt::format("{}: the cells {} and {} are the same run; remove one of them", place,
                                        first->second, cell.name));
    }

  private:
    std::set<std::string> names_;
    std::map<std::string, std::string> configs_;
};

}  // namespace

bool is_seed(const std::string& field) { return field == "train.seed" || field == "train.data_seed"; }

std::vector<Cell> expand(const SweepFile& file, const std::vector<std::string>& settings) {
    if (file.grid.empty() && file.variants.empty())
        throw UserError(fmt::format("{}: neither [grid] nor [[variant]]; for a single run use ballast train {}",
                                    file.path, file.base));
    const std::vector<ConfigOverride> options = parse_overrides(settings);
    std::vector<const Variant*> variants;
    for (const Variant& variant : file.variants) variants.push_back(&variant);
    if (variants.empty()) variants.push_back(nullptr);
    std::vector<Grid> grids;
    size_t most_seeds = 0;
    for (const Variant* variant : variants) {
        const Grid& grid = grids.emplace_back(file, variant);
        refuse_varied(grid, options, file, variant);
        most_seeds = std::max(most_seeds, grid.seeds());
    }
    Distinct distinct;
    std::vector<Cell> cells;
    for (size_t seed = 0; seed < most_seeds; ++seed)
        for (const Grid& grid : grids) {
            const size_t each = grid.size() / grid.seeds();
            for (size_t i = seed * each; i < (seed + 1) * each && seed < grid.seeds(); ++i) {
                Cell cell = grid.cell(i, options);
                load(cell, file, grid.place());
                distinct.add(cell, grid.place());
                cells.push_back(std::move(cell));
            }
        }
    return cells;
}

void resolve_data(std::vector<Cell>& cells) {
    std::map<std::array<std::string, 3>, int64_t> vocabulary;  // of the files that were opened
    for (Cell& cell : cells) {
        const train::DataConfig& data = cell.config.data;
        const std::array key{data.train, data.validation, data.tokenizer};
        auto found = vocabulary.find(key);
        if (found == vocabulary.end())
            found = vocabulary.emplace(key, train::RunData::open(data).tokenizer.vocab_size()).first;
        try {
            train::resolve_vocabulary(cell.config.model, found->second);
            cell.config.validate();
        } catch (const UserError& error) {
            throw UserError(fmt::format("cell {}: {}", cell.name, error.what()));
        }
    }
}

}  // namespace ballast::sweep

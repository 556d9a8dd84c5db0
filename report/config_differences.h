// The configurations of several runs, field by field.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ballast::report {

/// "train.steps" and "2400", in the file's order.
using ConfigFields = std::vector<std::pair<std::string, std::string>>;

/// Fields of a config.toml as training writes it: [section] and `name = value` lines. What is neither is passed over.
ConfigFields config_fields(std::string_view toml);

struct ConfigRow {
    std::string field;
    std::vector<std::optional<std::string>> values;  // of each run; none: the run has no such field
    bool differs = false;                            // between runs
};

/// Every field of any run once, sections kept together.
std::vector<ConfigRow> compare_configs(const std::vector<ConfigFields>& runs);

}  // namespace ballast::report

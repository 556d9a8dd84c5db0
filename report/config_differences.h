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

/// The fields of a config.toml as training writes it: [section] and `name = value` lines. Other lines are skipped.
ConfigFields config_fields(std::string_view toml);

struct ConfigRow {
    std::string field;
    std::vector<std::optional<std::string>> values;  // one per run; empty: the run has no such field
    bool differs = false;                            // true when the values of the runs differ
};

/// Every field of any run once; fields of one section stay together.
std::vector<ConfigRow> compare_configs(const std::vector<ConfigFields>& runs);

}  // namespace ballast::report

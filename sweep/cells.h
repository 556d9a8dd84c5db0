// The cells of a sweep: its runs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sweep/sweep_file.h"
#include "train/run_config.h"

namespace ballast::sweep {

struct Cell {
    std::string name;                                         // of its folder: "zero_sink,seed=2"
    std::string variant;                                      // the name without seeds; the table averages a variant
    std::vector<std::pair<std::string, std::string>> varied;  // grid fields and their values as TOML
    std::vector<ConfigOverride> overrides;                    // of the base config, in order
    train::RunConfig config;
};

/// True for fields that distinguish repetitions of one variant. They vary slowest, whatever the file's order: every
/// variant gets its first seed before any variant gets its second. So a sweep that is stopped early still compares all
/// variants.
bool is_seed(const std::string& field);

/// All cells, each with its config loaded and validated; `settings` from --set apply to all of them. UserError, with
/// the line, for a field that is set in two places, an unknown field, a wrong value, an invalid config, or two equal
/// cells.
std::vector<Cell> expand(const SweepFile& file, const std::vector<std::string>& settings);

/// Opens the files that the cells' configs name and sets the ids of sink tokens, as training does. Afterwards the
/// configs equal those in RUN/config.toml. UserError for a missing or mismatched file.
void resolve_data(std::vector<Cell>& cells);

}  // namespace ballast::sweep

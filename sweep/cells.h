// The runs a sweep is made of.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sweep/sweep_file.h"
#include "train/run_config.h"

namespace ballast::sweep {

struct Cell {
    std::string name;                                         // of its folder: "zero_sink,seed=2"
    std::string variant;                                      // the same without seeds: what is averaged over
    std::vector<std::pair<std::string, std::string>> varied;  // grid fields and their values as TOML
    std::vector<ConfigOverride> overrides;                    // of the base config, in order
    train::RunConfig config;
};

/// Fields that tell repetitions of one variant apart. They vary slowest, whatever the file's order: every variant has
/// its first seed before any has its second, so a sweep stopped early still compares all of them.
bool is_seed(const std::string& field);

/// Every cell, with its config loaded and validated; `settings` are those of --set, for all of them. UserError, with
/// the line, for a field that is set in two places, an unknown one, a wrong value, an invalid config or two equal
/// cells.
std::vector<Cell> expand(const SweepFile& file, const std::vector<std::string>& settings);

/// Opens what the cells' configs name and gives sink tokens their ids, as training does: the configs then are what
/// RUN/config.toml holds. UserError for a missing or mismatched file.
void resolve_data(std::vector<Cell>& cells);

}  // namespace ballast::sweep

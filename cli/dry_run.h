// ballast train CONFIG --dry-run: what a run takes on ranks that are not here.
#pragma once

#include <string>
#include <vector>

#include "train/run_config.h"

namespace ballast {

struct DryRun {
    std::vector<int> ranks{1};
    std::string gpu = "cpu";  // a name of train::machine_names()
    std::string net;          // as train::parse_network(); empty: one rank alone
};

/// Prints a line for each number of ranks. UserError when more than one has no network, and when a configuration cannot
/// be shared out so.
void print_dry_run(const DryRun& options, const train::RunConfig& config);

}  // namespace ballast

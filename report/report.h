// `ballast report`: one HTML file that shows runs side by side.
#pragma once

#include <string>
#include <vector>

#include "report/run_data.h"

namespace ballast::report {

/// Reads the runs, named so that they can be told apart. `tables` are files of `ballast eval table --json`.
/// UserError for a missing folder, one that is no run, one given twice, and tables that are none.
std::vector<RunData> read_runs(const std::vector<std::string>& folders, const std::vector<std::string>& tables);

/// The page of these runs, complete in itself, and of plans (mixtures of attention spans). UserErrors as plans_json().
std::string render(const std::vector<RunData>& runs, const std::vector<std::string>& plans = {});

}  // namespace ballast::report

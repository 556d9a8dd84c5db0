// `ballast report`: one HTML file that shows runs side by side.
#pragma once

#include <string>
#include <vector>

#include "report/run_data.h"

namespace ballast::report {

/// Reads the runs and gives them distinct names. `tables` are files of `ballast eval table --json`. UserError for a
/// missing folder, a folder that is not a run, a folder given twice, and a file that is not a table.
std::vector<RunData> read_runs(const std::vector<std::string>& folders, const std::vector<std::string>& tables);

/// The page of these runs and of plans (mixtures of attention spans), without external files. UserErrors as for
/// plans_json().
std::string render(const std::vector<RunData>& runs, const std::vector<std::string>& plans = {});

}  // namespace ballast::report

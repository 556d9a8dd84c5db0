// Short names for paths that are shown side by side.
#pragma once

#include <string>
#include <vector>

namespace ballast {

/// The last component of each path, with as many parents before it as it takes to tell them apart ("a/run", "b/run").
/// The paths need not exist. UserError for one that is given twice, in whatever spelling.
std::vector<std::string> path_labels(const std::vector<std::string>& paths);

}  // namespace ballast

// Short names for paths that are shown side by side.
#pragma once

#include <string>
#include <vector>

namespace ballast {

/// The last component of each path, preceded by as many parent folders as are needed to make the labels distinct
/// ("a/run", "b/run"). The paths need not exist. UserError when a path is given twice, in any spelling.
std::vector<std::string> path_labels(const std::vector<std::string>& paths);

}  // namespace ballast

// What runs are called in a report.
#pragma once

#include <string>
#include <vector>

namespace ballast::report {

/// The folders' names, with as many parent folders before them as it takes to tell them apart ("a/run", "b/run").
/// UserError for a folder that is missing or holds no run, and for one that is given twice.
std::vector<std::string> run_labels(const std::vector<std::string>& folders);

}  // namespace ballast::report

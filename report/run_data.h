// One run in the form that the page reads (not documented in docs/formats.md: the page and this file are built
// together).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "report/config_differences.h"
#include "report/evaluations.h"

namespace ballast::report {

struct RunData {
    std::string folder, label;
    ConfigFields config;
    Evaluations evaluations;
};

/// The number of points of a line. A longer run has buckets with their mean, minimum and maximum.
inline constexpr size_t kMostPoints = 1000;
inline constexpr size_t kMostSamples = 40;
inline constexpr size_t kLongestSample = 4000;  // bytes

/// Reads the files that exist in the run's folder; `tables` as for read_evaluations.
RunData read_run(const std::string& folder, const std::string& label, const std::vector<std::string>& tables);

/// Everything but the configuration and the maps.
nlohmann::ordered_json to_json(const RunData& run);

/// `text` cut to at most `bytes`, at a character's end, with "…".
std::string shortened(const std::string& text, size_t bytes);

}  // namespace ballast::report

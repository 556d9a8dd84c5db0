// One run as the page sees it (docs/formats.md has no say here: the page and this file are built together).
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

/// Points of a line; a longer run's are buckets with their mean, least and largest value.
inline constexpr size_t kMostPoints = 1000;
inline constexpr size_t kMostSamples = 40;
inline constexpr size_t kLongestSample = 4000;  // bytes

/// Reads the run's folder, what of it is there; `tables` as in read_evaluations.
RunData read_run(const std::string& folder, const std::string& label, const std::vector<std::string>& tables);

/// Everything but the configuration and the maps.
nlohmann::ordered_json to_json(const RunData& run);

/// `text` cut to at most `bytes`, at a character's end, with "…".
std::string shortened(const std::string& text, size_t bytes);

}  // namespace ballast::report

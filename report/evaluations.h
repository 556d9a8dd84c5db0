// What was measured on a run, from the files of `ballast eval … --json`.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>  // whole, as Evaluations has values of it: for this room's few files only
#include <string>
#include <vector>

namespace ballast::report {

/// Files that hold one run's measurements, in RUN/eval/. Others there are read too, if `ballast eval` wrote them.
inline constexpr const char* kTableFile = "eval/table.json";
inline constexpr const char* kSinksFile = "eval/sinks.json";
inline constexpr const char* kMapsFile = "eval/maps.safetensors";

struct Evaluations {
    nlohmann::ordered_json cells;              // array of streaming results, one for each policy and cache size
    nlohmann::ordered_json sinks;              // sink metrics, or null
    int64_t cells_step = -1, sinks_step = -1;  // of the checkpoint measured; -1: unknown
    std::vector<std::string> notes;            // files that were passed over, and why
};

/// Reads RUN/eval/*.json in the order of their names, then `tables`, which may hold other runs too; of two results for
/// one cell the later holds. A strange file in RUN/eval is a note; one in `tables`, which the user named, a UserError.
Evaluations read_evaluations(const std::string& run, const std::vector<std::string>& tables);

}  // namespace ballast::report

// What was measured on a run, from the files of `ballast eval … --json`.
#pragma once

#include <string>
#include <vector>

#include "eval/measurement.h"

namespace ballast::report {

/// Files that hold one run's measurements, in RUN/eval/. Others there are read too, if `ballast eval` wrote them.
inline constexpr const char* kTableFile = "eval/table.json";
inline constexpr const char* kSinksFile = "eval/sinks.json";
inline constexpr const char* kMapsFile = "eval/maps.safetensors";

struct Evaluations {
    std::vector<eval::Measurement> measurements;  // one for each cell of the cache table, and for the sink metrics
    std::vector<std::string> notes;               // files that were passed over, and why
};

/// Whether the folder is no run but a finished model, as Hugging Face has it: config.json and no metrics. It is
/// measured and shown like a run, its files lie in FOLDER/eval, and its weights do not change.
bool is_model_folder(const std::string& folder);
/// One of those, of an encoder: it has attention, and neither caches nor tokens to predict.
bool is_encoder_folder(const std::string& folder);

/// Those of one kind, in order.
template <class M>
std::vector<const M*> measurements_of_kind(const std::vector<eval::Measurement>& measurements) {
    std::vector<const M*> out;
    for (const eval::Measurement& measurement : measurements)
        if (const M* metrics = std::get_if<M>(&measurement.metrics)) out.push_back(metrics);
    return out;
}

/// Reads RUN/eval/*.json in the order of their names, then `tables`, which may hold other runs too. Of two results for
/// one thing the later checkpoint's holds; of one checkpoint, the one read later. A strange file in RUN/eval is a note;
/// one in `tables`, which the user named, a UserError.
Evaluations read_evaluations(const std::string& run, const std::vector<std::string>& tables);

}  // namespace ballast::report

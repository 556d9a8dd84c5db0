// The measurements of a run, read from the files of `ballast eval … --json`.
#pragma once

#include <string>
#include <vector>

#include "eval/measurement.h"

namespace ballast::report {

/// Files of one run's measurements, in RUN/eval/. Other files there are read too, if `ballast eval` wrote them.
inline constexpr const char* kTableFile = "eval/table.json";
inline constexpr const char* kSinksFile = "eval/sinks.json";
inline constexpr const char* kMapsFile = "eval/maps.safetensors";

struct Evaluations {
    std::vector<eval::Measurement> measurements;  // one for each cell of the cache table, and for the sink metrics
    std::vector<std::string> notes;               // files that were skipped, and why
};

/// True when the folder is not a run but a finished model in Hugging Face format: it has config.json and no metrics.
/// Such a model is measured and shown like a run. Its measurements are in FOLDER/eval, and its weights do not change.
bool is_model_folder(const std::string& folder);
/// True for such a folder with an encoder, which has attention but neither caches nor tokens to predict.
bool is_encoder_folder(const std::string& folder);

/// The measurements of one kind, in order.
template <class M>
std::vector<const M*> measurements_of_kind(const std::vector<eval::Measurement>& measurements) {
    std::vector<const M*> out;
    for (const eval::Measurement& measurement : measurements)
        if (const M* metrics = std::get_if<M>(&measurement.metrics)) out.push_back(metrics);
    return out;
}

/// Reads RUN/eval/*.json in the order of their names, then `tables`, which may also hold other runs. Of two results for
/// the same subject and weights, the one of the later checkpoint is kept; for the same checkpoint, the one read later.
/// An unknown file in RUN/eval gives a note; an unknown file in `tables`, which the user named, is a UserError.
Evaluations read_evaluations(const std::string& run, const std::vector<std::string>& tables);

}  // namespace ballast::report

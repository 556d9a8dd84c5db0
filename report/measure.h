// Measuring what a report would lack.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "report/evaluations.h"
#include "train/load_model.h"

namespace ballast::report {

struct Missing {
    bool cells = false;      // perplexity under each cache policy; an encoder has none
    bool attention = false;  // sink metrics or maps
    bool any() const { return cells || attention; }
};

/// What was not measured, or only on checkpoints older than the run's newest valid one. Nothing, for a run without a
/// checkpoint; of a model folder, what was not measured. Reads a checkpoint only when one is newer than the
/// measurements.
Missing missing_evaluations(const std::string& run, const Evaluations& have);

struct MeasureOptions {
    int64_t cache = 0;  // total positions; 0: half the trained context
    Dtype dtype = Dtype::f32;
};

/// The text to measure on, as a model reads it.
struct TextReader {
    std::function<std::vector<uint32_t>(const train::ModelSource&)> tokens;
    /// For encoders: at most `count` sequences of `length` tokens that begin with sentences, [CLS] … [SEP].
    std::function<std::vector<std::vector<int32_t>>(const train::ModelSource&, int64_t length, int64_t count)>
        encoder_sequences;
};

/// What measure() refuses of the cache and of a text of `num_tokens`: a UserError.
void check_measure(const model::ModelConfig& config, const MeasureOptions& options, int64_t num_tokens);

/// Measures what is missing on the run's newest valid checkpoint, as `ballast eval table` and `ballast eval sinks
/// --maps` do, and writes it to the files of RUN/eval. An encoder has attention only. UserError, before anything is
/// computed, when the files cannot be written or the cache does not suit the model.
void measure(Context& context, const std::string& run, Missing missing, const MeasureOptions& options,
             const TextReader& text);

}  // namespace ballast::report

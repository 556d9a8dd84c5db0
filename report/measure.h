// Measures what a report would lack.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "report/evaluations.h"
#include "train/load_model.h"

namespace ballast::report {

struct Missing {
    bool cells = false;      // perplexity under each cache policy; not for an encoder
    bool attention = false;  // sink metrics or maps
    bool any() const { return cells || attention; }
};

/// The missing measurements: those not yet made, or made only on checkpoints older than the run's newest valid one.
/// Nothing for a run without a checkpoint. For a model folder, those not yet made. Reads a checkpoint only when it is
/// newer than the measurements.
Missing missing_evaluations(const std::string& run, const Evaluations& have);

struct MeasureOptions {
    int64_t cache = 0;  // total positions; 0: half of the trained context
    Dtype dtype = Dtype::f32;
};

/// The text to measure on, encoded for a given model.
struct TextReader {
    std::function<std::vector<uint32_t>(const train::ModelSource&)> tokens;
    /// For encoders: at most `count` sequences of `length` tokens that begin at sentence starts, [CLS] … [SEP].
    std::function<std::vector<std::vector<int32_t>>(const train::ModelSource&, int64_t length, int64_t count)>
        encoder_sequences;
};

/// UserError for a cache or a text of `num_tokens` tokens that measure() would refuse.
void check_measure(const model::ModelConfig& config, const MeasureOptions& options, int64_t num_tokens);

/// Makes the missing measurements on the run's newest valid checkpoint, as `ballast eval table` and `ballast eval sinks
/// --maps` do, and writes the files of RUN/eval. Only attention for an encoder. UserError, before anything is computed,
/// when the files cannot be written or the cache does not suit the model.
void measure(Context& context, const std::string& run, Missing missing, const MeasureOptions& options,
             const TextReader& text);

}  // namespace ballast::report

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

struct MeasureOptions {
    int64_t cache = 0;  // total positions; 0: half of the trained context
    Dtype dtype = Dtype::f32;
    std::string text = {};  // text_label(), kept with what is measured; empty: unknown
};

/// The name of a text in measurements: its files, and the number of tokens when only the first `max_tokens` are read.
std::string text_label(const std::vector<std::string>& files, int64_t max_tokens);

/// The cache that measure() takes for a model.
int64_t cache_of(const model::ModelConfig& config, const MeasureOptions& options);

/// The missing measurements: those not yet made, or made only on checkpoints older than the run's newest valid one, or
/// of another cache than wanted.cache, or of another text than wanted.text, as far as either is given (of a file that
/// does not say its text, none is another). Nothing for a run without a checkpoint. For a model folder, those not yet
/// made. Reads a checkpoint only when it is newer than the measurements.
Missing missing_evaluations(const std::string& run, const Evaluations& have, const MeasureOptions& wanted = {});

/// The text to measure on, encoded for a given model.
struct TextReader {
    std::function<std::vector<uint32_t>(const train::ModelSource&)> tokens;
    /// For encoders: at most `count` sequences of `length` tokens that begin at sentence starts, [CLS] … [SEP].
    std::function<std::vector<std::vector<int32_t>>(const train::ModelSource&, int64_t length, int64_t count)>
        encoder_sequences;
};

/// UserError for a cache or a text of `num_tokens` tokens that measure() would refuse.
void check_measure(const model::ModelConfig& config, const MeasureOptions& options, int64_t num_tokens);

/// What is to be measured of a run, and the text for it.
struct MeasurePlan {
    std::string run;
    Missing missing;
    std::vector<uint32_t> tokens;
    std::vector<std::vector<int32_t>> encoder_sequences;  // in place of tokens
    model::ModelConfig config;                            // not of an encoder
};

/// Reads the text for a run. UserError, which names what is at fault, for all that measure() would refuse: files of
/// RUN/eval that cannot be written, a text that is too short, a cache that does not suit the model. So all of several
/// runs can be checked before the first is measured.
MeasurePlan plan_measure(const std::string& run, Missing missing, const MeasureOptions& options,
                         const TextReader& text);

/// What measure() takes for a decoder over a text of `num_tokens` tokens, the model's weights included.
eval::MeasurementMemory measure_memory(const Context& context, const model::ModelConfig& config, Missing missing,
                                       const MeasureOptions& options, int64_t num_tokens);
/// The same for a plan, of an encoder too (without its weights).
eval::MeasurementMemory measure_memory(const Context& context, const MeasurePlan& plan, const MeasureOptions& options);

/// Makes the missing measurements on the run's newest valid checkpoint, as `ballast eval table` and `ballast eval sinks
/// --maps` do, and writes the files of RUN/eval. Only attention for an encoder.
void measure(Context& context, const MeasurePlan& plan, const MeasureOptions& options);
/// The same for a run of which nothing was planned before; UserErrors of plan_measure().
void measure(Context& context, const std::string& run, Missing missing, const MeasureOptions& options,
             const TextReader& text);

}  // namespace ballast::report

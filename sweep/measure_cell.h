// Measuring a trained cell, as `ballast report --text` does, once.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sweep/sweep_file.h"
#include "report/measure.h"

namespace ballast::sweep {

/// What a run still lacks of `wanted`: RUN/evaluate.toml says under which [evaluate] its measurements were made, and
/// others do not count, as the rows of a table must be of one text and one cache.
report::Missing missing_measurements(const std::string& folder, const EvaluateConfig& wanted);

/// Measures it and leaves the note.
void measure_cell(Context& context, const std::string& folder, report::Missing missing, const EvaluateConfig& wanted,
                  const std::function<std::vector<uint32_t>(const train::ModelSource&)>& read_text);

/// UserError, before anything is trained, for a text that is not there and a cache that exceeds `positions`.
void check_evaluation(const EvaluateConfig& wanted, int64_t positions);

}  // namespace ballast::sweep

// Measuring a trained cell, as `ballast report --text` does, once.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "report/measure.h"
#include "sweep/cells.h"

namespace ballast::sweep {

/// What a run still lacks of `wanted`: RUN/evaluate.toml says under which [evaluate] its measurements were made, and
/// others do not count, as the rows of a table must be of one text and one cache.
report::Missing missing_measurements(const std::string& folder, const EvaluateConfig& wanted);

/// Measures it and leaves the note.
void measure_cell(Context& context, const std::string& folder, report::Missing missing, const EvaluateConfig& wanted,
                  const std::function<std::vector<uint32_t>(const train::ModelSource&)>& read_text);

/// What measure_cell() would refuse after the cell was trained: a UserError naming the cell. `num_tokens`: of the text.
void check_measurements(const Cell& cell, const EvaluateConfig& wanted, int64_t num_tokens);

}  // namespace ballast::sweep

// Measuring a trained cell, as `ballast report --text` does, once.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "report/measure.h"
#include "sweep/cells.h"

namespace ballast::sweep {

/// How a cell is measured.
report::MeasureOptions measure_options(const Cell& cell, const EvaluateConfig& wanted);

/// The measurements of `wanted` that a cell's run lacks. RUN/evaluate.toml holds the [evaluate] settings of its
/// measurements. Measurements under other settings do not count, because the rows of a table must be of one text and
/// one cache; nor do those that a report has made anew since, of others.
report::Missing missing_measurements(const Cell& cell, const std::string& folder, const EvaluateConfig& wanted);

/// Measures the cell and writes RUN/evaluate.toml.
void measure_cell(Context& context, const Cell& cell, const std::string& folder, report::Missing missing,
                  const EvaluateConfig& wanted,
                  const std::function<std::vector<uint32_t>(const train::ModelSource&)>& read_text);

/// UserError that names the cell, for a mistake that measure_cell() would refuse only after training. `num_tokens`: of
/// the text.
void check_measurements(const Cell& cell, const EvaluateConfig& wanted, int64_t num_tokens);

}  // namespace ballast::sweep

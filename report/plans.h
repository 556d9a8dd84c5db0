// Mixtures of attention spans for a report.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace ballast::report {

/// [{"name", "length", "svg", "table"}] for each plan: a drawing (base64) and the kept positions by length. `length` is
/// the longest length for which the plan has figures. `files` are plans (infer/span_plan.h), JSON or DuoAttention's
/// tables. UserError that names the file when it is not a plan.
nlohmann::ordered_json plans_json(const std::vector<std::string>& files);

}  // namespace ballast::report

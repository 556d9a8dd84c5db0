// Mixtures of attention spans as a report shows them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace ballast::report {

/// [{"name", "length", "svg", "table"}]: a drawing (base64) and what is kept by length, of each plan; `length` is the
/// longest that the plan has figures for. `files` are plans (infer/span_plan.h), JSON or DuoAttention's tables.
/// UserError, naming the file, for one that is no plan.
nlohmann::ordered_json plans_json(const std::vector<std::string>& files);

}  // namespace ballast::report

// A plan as text and as a drawing.
#pragma once

#include <string>
#include <vector>

#include "infer/span_plan.h"

namespace ballast::moa {

/// Texts that a plan is looked at: those that it has figures for, the ends of its range, or those of the
/// MoA project's plans.
std::vector<int64_t> lengths_to_show(const infer::SpanPlan& plan);

/// A line a layer: a bar a head, as high as the share of N that its cache holds, and the mean cache in positions.
std::string plan_picture(const infer::SpanPlan& plan, int64_t N);

/// An SVG: layers across, heads down, a cell as dark as the share of N that the head's cache holds.
std::string plan_svg(const infer::SpanPlan& plan, int64_t N);

/// Lines of {length, mean cache, attention, memory}, in columns. `kv_heads` as in memory_density().
std::string density_table(const infer::SpanPlan& plan, int64_t kv_heads, const std::vector<int64_t>& lengths);

}  // namespace ballast::moa

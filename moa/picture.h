// A plan as text and as a drawing.
#pragma once

#include <string>
#include <vector>

#include "infer/span_plan.h"

namespace ballast::moa {

/// The text lengths at which to show a plan: those of its figures, the ends of its range, or those of the MoA project's
/// plans.
std::vector<int64_t> lengths_to_show(const infer::SpanPlan& plan);

/// One line per layer: a bar per head, whose height is its cache's share of N, and the mean cache in positions.
std::string plan_picture(const infer::SpanPlan& plan, int64_t N);

/// An SVG: layers across, heads down. A cell's darkness is the head's cache as a share of N.
std::string plan_svg(const infer::SpanPlan& plan, int64_t N);

/// Lines of {length, mean cache, attention, memory}, in columns. `kv_heads` as in memory_density().
std::string density_table(const infer::SpanPlan& plan, int64_t kv_heads, const std::vector<int64_t>& lengths);

}  // namespace ballast::moa

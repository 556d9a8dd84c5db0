// The rows of a prompt that a head keeps by their scores (H2O, Zhang et al. 2023).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "infer/cache_plan.h"

namespace ballast::infer {

/// The positions that a head which chooses by score keeps when it has read a prompt with these scores, in ascending
/// order. They are the last `span` positions, and of the earlier positions the heavy + 1 with the highest scores. That
/// is one more than is kept for the next query, because that query's row will replace the lightest one
/// (ops::lightest_slots). The order is the same there: among equal scores the later position is heavier, and NaN is the
/// lightest.
std::vector<int64_t> heavy_rows(const HeadCache& head, std::span<const double> scores);

}  // namespace ballast::infer

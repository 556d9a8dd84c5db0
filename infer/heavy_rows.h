// Which rows of a prompt a head keeps by their scores (H2O, Zhang et al. 2023).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "infer/cache_plan.h"

namespace ballast::infer {

/// What a head that chooses by score holds when the prompt with these scores has been read: the positions, ascending.
/// They are the last `span`, and of the earlier ones the heavy + 1 with the highest scores: one more than are kept for
/// the next query, because that query's row will take the lightest one's place (ops::lightest_slots), by the same
/// order: of equal scores the later is the heavier, and what is no number the lightest.
std::vector<int64_t> heavy_rows(const HeadCache& head, std::span<const double> scores);

}  // namespace ballast::infer

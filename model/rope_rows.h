// Angles of single positions: what a step of decoding rotates its rows by, however far the text has come.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/context.h"
#include "model/rope_scaling.h"

namespace ballast::model {

/// Fills row n of table acc [N,R], as ops::rope_table() fills row p of its own, with the angles of positions[n]: a
/// cos(p f_i), then a sin(p f_i), in double on the host. A table of all positions would grow with the text, and one
/// whose positions are counted from another place would make rotated keys in a cache wrong.
void fill_rope_rows(Context& context, const Tensor& table_NR, const RopeFrequencies& frequencies,
                    std::span<const int32_t> positions);

}  // namespace ballast::model

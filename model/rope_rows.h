// The angles of single positions: a decoding step rotates its rows by them, at any position in the text.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/context.h"
#include "model/rope_scaling.h"

namespace ballast::model {

/// Fills row n of table acc [N,R] with the angles of positions[n], in the layout of ops::rope_table(): a cos(p f_i),
/// then a sin(p f_i), in double on the host. A table of all positions would grow with the text. A table with positions
/// counted from another origin would not match the rotated keys in a cache.
void fill_rope_rows(Context& context, const Tensor& table_NR, const RopeFrequencies& frequencies,
                    std::span<const int32_t> positions);

}  // namespace ballast::model

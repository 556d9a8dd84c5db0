#include "model/positions.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace ballast::model {

double PositionTables::alibi_slope(int64_t head, int64_t num_heads) {
    const auto n = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_heads)));
    if (head < n) return std::exp2(-8.0 * static_cast<double>(head + 1) / static_cast<double>(n));
    return std::exp2(-8.0 * static_cast<double>(2 * (head - n) + 1) / static_cast<double>(2 * n));
}

PositionTables::PositionTables(Context& context, const ModelConfig& config, Dtype compute_dtype, int64_t positions)
    : dtype_(accumulation_dtype(compute_dtype)), rotary_dims_(config.rotary_dims()) {
    for (int64_t i = 0; i < rotary_dims_ / 2; ++i)
        inv_freq_.push_back(
            std::pow(config.rotary_base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dims_)));
    ensure(context, positions);
    if (config.position != Position::alibi) return;
    const int64_t H = config.num_heads;
    alibi_buffer_ = context.allocate(static_cast<size_t>(H) * sizeof(double));
    alibi_slopes_ = Tensor(alibi_buffer_.data(), dtype_, {H});
    std::vector<double> slopes;
    for (int64_t h = 0; h < H; ++h) slopes.push_back(alibi_slope(h, H));
    const std::vector<float> narrow(slopes.begin(), slopes.end());
    context.copy_from_host(alibi_slopes_,
                           dtype_ == Dtype::f64 ? static_cast<const void*>(slopes.data()) : narrow.data());
}

void PositionTables::ensure(Context& context, int64_t positions) {
    if (rotary_dims_ == 0 || (!rope_.empty() && rope_.dim(0) >= positions)) return;
    const int64_t rows = rope_.empty() ? positions : std::max(positions, 2 * rope_.dim(0));
    if (!rope_.empty()) context.memory_was_replaced();
    rope_buffer_ = context.allocate(static_cast<size_t>(rows * rotary_dims_) * size_of(dtype_));
    rope_ = Tensor(rope_buffer_.data(), dtype_, {rows, rotary_dims_});
    ops::rope_table(context, rope_, inv_freq_, 1.0);
}

}  // namespace ballast::model

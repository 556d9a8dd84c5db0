#include "model/positions.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "model/rope_scaling.h"

namespace ballast::model {

double PositionTables::alibi_slope(int64_t head, int64_t num_heads, double bias_max) {
    const auto n = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_heads)));
    if (head < n) return std::exp2(-bias_max * static_cast<double>(head + 1) / static_cast<double>(n));
    return std::exp2(-bias_max * static_cast<double>(2 * (head - n) + 1) / static_cast<double>(2 * n));
}

PositionTables::PositionTables(Context& context, const ModelConfig& config, Dtype compute_dtype, int64_t positions)
    : config_(config), dtype_(accumulation_dtype(compute_dtype)), sequence_length_(config.max_position_embeddings) {
    ensure(context, positions);
    if (config.position == Position::alibi) upload_slopes(context);
    upload_spans(context);
}

void PositionTables::upload_slopes(Context& context) {
    const int64_t H = config_.num_heads;
    alibi_buffer_ = context.allocate(static_cast<size_t>(H) * sizeof(double));
    alibi_slopes_ = Tensor(alibi_buffer_.data(), dtype_, {H});
    std::vector<double> slopes;
    for (int64_t h = 0; h < H; ++h) slopes.push_back(alibi_slope(h, H, config_.alibi_bias_max));
    const std::vector<float> narrow(slopes.begin(), slopes.end());
    context.copy_from_host(alibi_slopes_,
                           dtype_ == Dtype::f64 ? static_cast<const void*>(slopes.data()) : narrow.data());
}

void PositionTables::upload_spans(Context& context) {
    const auto count = static_cast<int64_t>(config_.attention_span.size()), H = config_.num_heads;
    span_buffer_ = context.allocate(static_cast<size_t>(count * H) * sizeof(int32_t));
    const Tensor all(span_buffer_.data(), Dtype::i32, {count, H});
    for (int64_t i = 0; i < count; ++i) {
        const int64_t span = config_.span_of_layer(i);
        spans_.push_back(span == 0 ? Tensor{} : all.slice(0, i, i + 1).view({H}));
        if (span == 0) continue;
        const std::vector<int32_t> head_spans(static_cast<size_t>(H), static_cast<int32_t>(span));
        context.copy_from_host(spans_.back(), head_spans.data());
    }
}

void PositionTables::ensure(Context& context, int64_t positions) {
    const int64_t R = config_.rotary_dims();
    if (R == 0 || (!rope_.empty() && rope_.dim(0) >= positions)) return;
    const int64_t rows = rope_.empty() ? positions : std::max(positions, 2 * rope_.dim(0));
    if (!rope_.empty()) context.memory_was_replaced();
    rope_buffer_ = context.allocate(static_cast<size_t>(rows * R) * size_of(dtype_));
    rope_ = Tensor(rope_buffer_.data(), dtype_, {rows, R});
    const RopeFrequencies frequencies = rope_frequencies(config_, sequence_length_);
    ops::rope_table(context, rope_, frequencies.inverse, frequencies.attention_factor);
}

void PositionTables::set_sequence_length(Context& context, int64_t length) {
    length = std::max(length, config_.max_position_embeddings);  // shorter ones all have the same angles
    if (!rope_depends_on_length(config_) || length == sequence_length_) return;
    sequence_length_ = length;
    const RopeFrequencies frequencies = rope_frequencies(config_, length);
    ops::rope_table(context, rope_, frequencies.inverse, frequencies.attention_factor);
}

}  // namespace ballast::model

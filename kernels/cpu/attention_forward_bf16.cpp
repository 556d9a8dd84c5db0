// Attention, forward, with bf16 products: the recurrence of attention_forward.cpp over larger tiles. S = Q K^T and O +=
// P V of a tile are one product each. The softmax of a row reads only its visible range; P is 0 for the other keys.
// Tasks are divided by shape and share nothing, so bits do not depend on the number of threads.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_forward_bf16.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/attention_bf16.h"
#include "kernels/cpu/gemm.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Queries [t0, t0 + kQueries) of one head.
class Bf16ForwardTile {
  public:
    static constexpr int64_t kQueries = 128;
    static constexpr int64_t kKeys = 512;

    Bf16ForwardTile(const AttentionInputs& in, const AttentionParams& params, int64_t b, int64_t h, int64_t t0)
        : in_(in),
          rules_(params, b, h),
          scale_(static_cast<float>(params.scale)),
          b_(b),
          h_(h),
          g_(h / (in.q.dim(2) / in.k.dim(2))),
          t0_(t0),
          dims_(in.q.dim(3)),
          queries_(std::min(kQueries, in.q.dim(1) - t0)),
          stride_(tile_stride<float>(dims_)),
          memory_(TileMemory::padded(sizeof(float) * kQueries * stride_) + kBytes),
          o_(memory_.take<float>(kQueries * stride_)),
          s_(memory_.take<float>(kQueries * kRow)),
          p_(memory_.take<bf16>(kQueries * kRow)),
          maximum_(memory_.take<float>(kQueries)),
          sum_(memory_.take<float>(kQueries)) {
        std::fill_n(o_, queries_ * stride_, 0.0f);
        std::fill_n(maximum_, queries_, -std::numeric_limits<float>::infinity());
        std::fill_n(sum_, queries_, 0.0f);
    }

    /// Takes in every key of `part` that some query of the tile sees.
    void add(const KeyPart& part) {
        const Range first = rules_.visible(part, t0_), last = rules_.visible(part, t0_ + queries_ - 1);
        for (int64_t c = first.begin; c < last.end; c += kKeys) add_keys(part, {c, std::min(c + kKeys, last.end)});
    }

    /// out and lse of every query, the sink logit z included.
    void finish(const Tensor& out, const Tensor& lse, float z) const {
        float* lse_row = static_cast<float*>(lse.data) + (b_ * lse.dim(1) + h_) * lse.dim(2) + t0_;
        for (int64_t r = 0; r < queries_; ++r)
            finish_row(head_row<bf16>(out, b_, t0_ + r, h_), lse_row[r], o_ + r * stride_, dims_, maximum_[r], sum_[r],
                       z);
    }

  private:
    /// Rows of S and P lie a little apart from a power of two, lest they fall on each other in the cache.
    static constexpr int64_t kRow = kKeys + 32;
    static constexpr size_t kBytes = kQueries * (kRow * (sizeof(float) + sizeof(bf16)) + 2 * sizeof(float));

    void add_keys(const KeyPart& part, Range columns) {
        const int64_t count = columns.end - columns.begin, row = part.first_row + columns.begin;
        const Tensor& query = part.sinks && !in_.sink_query.empty() ? in_.sink_query : in_.q;
        const Bf16Matrix q{head_row<const bf16>(query, b_, t0_, h_), query.stride[1], 1};
        const Bf16Matrix k{head_row<const bf16>(in_.k, b_, row, g_), in_.k.stride[1], 1};
        const Bf16Matrix v{head_row<const bf16>(in_.v, b_, row, g_), in_.v.stride[1], 1};
        multiply_bf16(queries_, count, dims_, q, k.transposed(), false, s_, kRow);
        for (int64_t r = 0; r < queries_; ++r) softmax_row(part, columns, r);
        multiply_bf16(queries_, dims_, count, {p_, kRow, 1}, v, true, o_, stride_);
    }

    /// Turns the products of row r into p and brings m, l and o up to date.
    HWY_INLINE void softmax_row(const KeyPart& part, Range columns, int64_t r) {
        float* s = s_ + r * kRow;
        bf16* p = p_ + r * kRow;
        const int64_t count = columns.end - columns.begin;
        const Range seen = within(columns, rules_.visible(part, t0_ + r));
        if (seen.empty()) {
            std::fill_n(p, count, bf16(0));
            return;
        }
        const Range runs = whole_runs<float>(seen);
        scale_row(s + runs.begin, runs.end - runs.begin, scale_);
        bias_and_mask(s, runs, seen, rules_, part.position + columns.begin - rules_.bias_position(part, t0_ + r));
        const float decay = online_softmax(p, s, runs, maximum_[r], sum_[r]);
        if (decay != 1) scale_row(o_ + r * stride_, stride_, decay);
        std::fill(p, p + runs.begin, bf16(0));
        std::fill(p + std::min(runs.end, count), p + count, bf16(0));
    }

    const AttentionInputs& in_;
    const HeadRules rules_;
    const float scale_;
    const int64_t b_, h_, g_, t0_, dims_, queries_, stride_;
    TileMemory memory_;
    float *o_, *s_;
    bf16* p_;
    float *maximum_, *sum_;
};

void attention_forward_bf16(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                            const AttentionParams& params) {
    const KeyParts parts(in, params);
    const int64_t heads = in.q.dim(2), tiles = ceil_div(in.q.dim(1), Bf16ForwardTile::kQueries);
    context.pool().parallel_for(in.q.dim(0) * heads * tiles, [&](int64_t task) HWY_ATTR {
        const int64_t h = task / tiles % heads;
        Bf16ForwardTile tile(in, params, task / tiles / heads, h, task % tiles * Bf16ForwardTile::kQueries);
        for (const KeyPart& part : parts) tile.add(part);
        tile.finish(out, lse, sink_logit_of<float>(params, h));
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_forward_bf16);

bool takes_bf16_attention(const Context& context, const AttentionInputs& in) {
    constexpr int64_t kEnoughQueries = 256;
    return in.q.dtype == Dtype::bf16 && in.q.dim(1) >= kEnoughQueries && native_bf16(context);
}

void attention_forward_bf16(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                            const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_forward_bf16)(context, out, lse, in, params);
}

}  // namespace ballast::cpu
#endif

// Attention, backward, with bf16 products: the sums of attention_backward.cpp over larger tiles. Each of the five
// products of a tile is one library call. P' and dS are 0 where a query does not see a key. One task owns a (batch,
// key-value head), as there.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward_bf16.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention_backward-inl.h"
#include "kernels/cpu/attention_bf16.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// One (batch, key-value head).
class Bf16BackwardTask : BackwardRows<bf16> {
  public:
    using Rows = BackwardRows<bf16>;
    using A = float;
    static constexpr int64_t kQueries = 256;
    static constexpr int64_t kKeys = 128;

    Bf16BackwardTask(const BackwardCall<float>& call, int64_t b, int64_t g)
        : Rows(call, b, g),
          memory_(2 * TileMemory::padded(sizeof(float) * kKeys * stride_) + kBytes),
          d_k_(memory_.take<float>(kKeys * stride_)),
          d_v_(memory_.take<float>(kKeys * stride_)),
          s_(memory_.take<float>(kQueries * kRow)),
          d_p_(memory_.take<float>(kQueries * kRow)),
          p_(memory_.take<bf16>(kQueries * kRow)),
          d_s_(memory_.take<bf16>(kQueries * kRow)) {}

    void run(const KeyParts& parts) {
        for (int64_t h = heads().begin; h < heads().end; ++h) start_head(h);
        for (const KeyPart& part : parts)
            for (int64_t c = 0; c < part.rows; c += kKeys) add_keys(part, {c, std::min(c + kKeys, part.rows)});
        for (int64_t h = heads().begin; h < heads().end; ++h) finish_head(h);
    }

  private:
    /// Rows of tiles lie a little apart from a power of two, lest they fall on each other in the cache.
    static constexpr int64_t kRow = kKeys + 32;
    static constexpr size_t kBytes = 2 * kQueries * kRow * (sizeof(float) + sizeof(bf16));

    void add_keys(const KeyPart& part, Range columns) {
        const int64_t count = columns.end - columns.begin, row = part.first_row + columns.begin;
        std::fill_n(d_k_, count * stride_, 0.0f);
        std::fill_n(d_v_, count * stride_, 0.0f);
        for (int64_t h = heads().begin; h < heads().end; ++h) {
            const HeadRules rules(call_.params, b_, h);
            const Range queries = rules.seeing(part, columns, steps_);
            for (int64_t t = queries.begin; t < queries.end; t += kQueries)
                add_queries(rules, part, columns, h, {t, std::min(t + kQueries, queries.end)});
        }
        store_rows(call_.gradients.d_k, g_, row, count, d_k_, scale_);
        store_rows(call_.gradients.d_v, g_, row, count, d_v_, 1.0f);
    }

    /// One tile of queries against one of keys: their shares of dQ, dK and dV.
    void add_queries(const HeadRules& rules, const KeyPart& part, Range columns, int64_t h, Range queries) {
        const int64_t count = queries.end - queries.begin, keys = columns.end - columns.begin;
        const bool sink_query = part.sinks && !call_.in.sink_query.empty();
        const Bf16Matrix q = rows_of(sink_query ? call_.in.sink_query : call_.in.q, queries.begin, h);
        const Bf16Matrix d_o = rows_of(call_.d_out, queries.begin, h);
        const Bf16Matrix k = rows_of(call_.in.k, part.first_row + columns.begin, g_);
        const Bf16Matrix v = rows_of(call_.in.v, part.first_row + columns.begin, g_);
        const Bf16Matrix p{p_, kRow, 1}, d_s{d_s_, kRow, 1};
        multiply_bf16(count, keys, dims_, q, k.transposed(), false, s_, kRow);
        multiply_bf16(count, keys, dims_, d_o, v.transposed(), false, d_p_, kRow);
        for (int64_t r = 0; r < count; ++r) scores(rules, part, columns, h, queries.begin + r, r * kRow);
        float* d_q = (sink_query ? d_sink_query_rows(h) : d_q_rows(h)) + queries.begin * stride_;
        multiply_bf16(keys, dims_, count, p.transposed(), d_o, true, d_v_, stride_);
        multiply_bf16(keys, dims_, count, d_s.transposed(), q, true, d_k_, stride_);
        multiply_bf16(count, dims_, keys, d_s, k, true, d_q, stride_);
    }

    Bf16Matrix rows_of(const Tensor& x, int64_t first, int64_t head) const {
        return {head_row<const bf16>(x, b_, first, head), x.stride[1], 1};
    }

    /// P' and dS of query t, whose row of the tiles begins at `at`.
    HWY_INLINE void scores(const HeadRules& rules, const KeyPart& part, Range columns, int64_t h, int64_t t,
                           int64_t at) const {
        const Range seen = within(columns, rules.visible(part, t));
        const Range runs = seen.empty() ? Range{0, 0} : whole_runs<float>(seen);
        if (!seen.empty()) {
            scale_row(s_ + at + runs.begin, runs.end - runs.begin, scale_);
            bias_and_mask(s_ + at, runs, seen, rules, part.position + columns.begin - rules.bias_position(part, t));
            score_row(p_ + at, d_s_ + at, s_ + at, d_p_ + at, runs, h, t);
        }
        for (bf16* row : {p_ + at, d_s_ + at}) {
            std::fill(row, row + runs.begin, bf16(0));
            std::fill(row + runs.end, row + std::max(runs.end, columns.end - columns.begin), bf16(0));
        }
    }

    TileMemory memory_;
    float *d_k_, *d_v_, *s_, *d_p_;
    bf16 *p_, *d_s_;
};

void attention_backward_bf16(Context& context, const AttentionGradients& gradients, const Tensor& d_out,
                             const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                             const AttentionParams& params) {
    for_every_key_head<Bf16BackwardTask>(context, gradients, d_out, out, lse, in, params);
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_backward_bf16);

void attention_backward_bf16(Context& context, const AttentionGradients& gradients, const Tensor& d_out,
                             const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                             const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_backward_bf16)(context, gradients, d_out, out, lse, in, params);
}

}  // namespace ballast::cpu
#endif

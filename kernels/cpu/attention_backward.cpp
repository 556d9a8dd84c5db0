// Attention, backward. With P' = exp(s - LSE') recomputed from lse and D = rowsum(dO * O):
//   dV = P'^T dO;  dP = dO V^T;  dS = P' * (dP - D);  dQ = scale dS K;  dK = scale dS^T Q;
//   dz_h = -sum over rows of exp(z_h - LSE') D
// (FlashAttention, Dao et al. 2022, algorithm 4, with the sink logit's LSE': kernels/attention_variant.h.)
//
// One task owns a (batch, key-value head): all of its d_k and d_v and, for the query heads of its group, d_q. So no two
// tasks add to the same element, and the order of additions is that of the loops. A task loops over tiles of keys and,
// for each tile, over the queries that see a key of it. The sum for dQ is in scratch memory [B,H,T,D] (twice with a
// sink query), next to D [B,H,T].

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention_backward-inl.h"
#include "kernels/cpu/attention_bf16.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// One (batch, key-value head).
template <class T>
class BackwardTask : BackwardRows<T> {
  public:
    using Rows = BackwardRows<T>;
    using A = typename Rows::A;
    static constexpr int64_t kQueries = 64;
    static int64_t keys_per_tile(int64_t dims) { return dims <= 128 ? 64 : 32; }

    BackwardTask(const BackwardCall<A>& call, int64_t b, int64_t g)
        : Rows(call, b, g),
          in_(call.in),
          padded_dims_(round_up(dims_, kMicroColumns<A>)),
          keys_(keys_per_tile(dims_)),
          memory_(bytes(dims_)),
          k_(memory_.template take<A>(keys_ * stride_)),
          k_transposed_(memory_.template take<A>(stride_ * keys_)),
          v_transposed_(memory_.template take<A>(stride_ * keys_)),
          d_k_(memory_.template take<A>(keys_ * stride_)),
          d_v_(memory_.template take<A>(keys_ * stride_)),
          q_(memory_.template take<A>(kQueries * stride_)),
          d_o_(memory_.template take<A>(kQueries * stride_)),
          p_(memory_.template take<A>(kQueries * keys_)),
          d_s_(memory_.template take<A>(kQueries * keys_)) {}

    void run(const KeyParts& parts) {
        const Range heads = this->heads();
        for (int64_t h = heads.begin; h < heads.end; ++h) this->start_head(h);
        for (const KeyPart& part : parts)
            for (int64_t c = 0; c < part.rows; c += keys_) add_keys(part, {c, std::min(c + keys_, part.rows)});
        for (int64_t h = heads.begin; h < heads.end; ++h) this->finish_head(h);
    }

  private:
    using Rows::b_, Rows::dims_, Rows::g_, Rows::scale_, Rows::steps_, Rows::stride_;

    static size_t bytes(int64_t dims) {
        const int64_t keys = keys_per_tile(dims), stride = tile_stride<A>(dims);
        return static_cast<size_t>(5 * keys * stride + 2 * kQueries * stride + 2 * kQueries * keys) * sizeof(A) +
               9 * 64;
    }

    void add_keys(const KeyPart& part, Range columns) {
        const int64_t count = columns.end - columns.begin, row = part.first_row + columns.begin;
        const T *k = head_row<const T>(in_.k, b_, row, g_), *v = head_row<const T>(in_.v, b_, row, g_);
        const int64_t padded = round_up(count, kRunColumns<A>);
        copy_rows(k_, stride_, k, in_.k.stride[1], count, dims_, padded_dims_);
        transpose_rows(k_transposed_, keys_, k, in_.k.stride[1], count, dims_, padded);
        transpose_rows(v_transposed_, keys_, v, in_.v.stride[1], count, dims_, padded);
        std::fill_n(d_k_, count * stride_, A(0));
        std::fill_n(d_v_, count * stride_, A(0));
        for (int64_t h = this->heads().begin; h < this->heads().end; ++h) {
            const HeadRules rules(this->call_.params, b_, h);
            const Range queries = rules.seeing(part, columns, steps_);
            for (int64_t t = queries.begin; t < queries.end; t += kQueries)
                add_queries(rules, part, columns, h, {t, std::min(t + kQueries, queries.end)});
        }
        this->store_rows(this->call_.gradients.d_k, g_, row, count, d_k_, A(1));
        this->store_rows(this->call_.gradients.d_v, g_, row, count, d_v_, A(1));
    }

    /// One tile of queries against the loaded tile of keys: their shares of dQ, dK and dV.
    void add_queries(const HeadRules& rules, const KeyPart& part, Range columns, int64_t h, Range queries) {
        const int64_t count = queries.end - queries.begin, width = columns.end - columns.begin;
        const bool sink_query = part.sinks && !in_.sink_query.empty();
        const Tensor& query = sink_query ? in_.sink_query : in_.q;
        copy_rows(q_, stride_, head_row<const T>(query, b_, queries.begin, h), query.stride[1], count, dims_,
                  padded_dims_, scale_);
        copy_rows(d_o_, stride_, head_row<const T>(this->call_.d_out, b_, queries.begin, h),
                  this->call_.d_out.stride[1], count, dims_, padded_dims_);

        A* d_q = (sink_query ? this->d_sink_query_rows(h) : this->d_q_rows(h)) + queries.begin * stride_;
        for (int64_t r = 0; r < count; r += kMicroRows) {
            const int64_t rows = std::min(kMicroRows, count - r);
            const Range seen = scores(rules, part, columns, h, queries.begin, r, rows);
            if (seen.empty()) continue;
            multiply_rows<A>(rows, dims_, seen.end - seen.begin, {d_s_ + r * keys_ + seen.begin, keys_, 1},
                             {k_ + seen.begin * stride_, stride_, kMicroColumns<A>}, d_q + r * stride_, stride_, true);
        }
        for (int64_t c = 0; c < width; c += kMicroRows) {
            const int64_t rows = std::min(kMicroRows, width - c);
            const Range seeing = rules.seeing(part, {columns.begin + c, columns.begin + c + rows}, steps_);
            const int64_t first = std::clamp<int64_t>(seeing.begin - queries.begin, 0, count);
            const int64_t depth = std::clamp<int64_t>(seeing.end - queries.begin, 0, count) - first;
            if (depth <= 0) continue;
            const int64_t corner = first * keys_ + c;
            multiply_rows<A>(rows, dims_, depth, {p_ + corner, 1, keys_},
                             {d_o_ + first * stride_, stride_, kMicroColumns<A>}, d_v_ + c * stride_, stride_, true);
            multiply_rows<A>(rows, dims_, depth, {d_s_ + corner, 1, keys_},
                             {q_ + first * stride_, stride_, kMicroColumns<A>}, d_k_ + c * stride_, stride_, true);
        }
    }

    /// P' and dS of queries [row, row + rows) of the tile that begins at query t0; returns the columns any of them
    /// sees.
    Range scores(const HeadRules& rules, const KeyPart& part, Range columns, int64_t h, int64_t t0, int64_t row,
                 int64_t rows) {
        const auto in_tile = [&](int64_t r) { return within(columns, rules.visible(part, t0 + r)); };
        const Range seen{in_tile(row).begin, in_tile(row + rows - 1).end};
        A *p = p_ + row * keys_, *d_s = d_s_ + row * keys_;
        std::fill_n(p, rows * keys_, A(0));
        std::fill_n(d_s, rows * keys_, A(0));
        if (seen.empty()) return seen;
        const Range panels = whole_runs<A>(seen);
        multiply_rows<A>(rows, panels.end - panels.begin, dims_, {q_ + row * stride_, stride_, 1},
                         {k_transposed_ + panels.begin, keys_, kMicroColumns<A>}, p + panels.begin, keys_, false);
        multiply_rows<A>(rows, panels.end - panels.begin, dims_, {d_o_ + row * stride_, stride_, 1},
                         {v_transposed_ + panels.begin, keys_, kMicroColumns<A>}, d_s + panels.begin, keys_, false);
        for (int64_t r = 0; r < rows; ++r, p += keys_, d_s += keys_) {
            const int64_t t = t0 + row + r;
            const Range own = in_tile(row + r);
            if (own.empty()) {
                std::fill(p + panels.begin, p + panels.end, A(0));
                std::fill(d_s + panels.begin, d_s + panels.end, A(0));
                continue;
            }
            bias_and_mask(p, panels, own, rules, part.position + columns.begin - rules.bias_position(part, t));
            this->score_row(p, d_s, p, d_s, panels, h, t);
        }
        return seen;
    }

    const AttentionInputs& in_;
    const int64_t padded_dims_, keys_;
    TileMemory memory_;
    A *k_, *k_transposed_, *v_transposed_, *d_k_, *d_v_, *q_, *d_o_, *p_, *d_s_;
};

void attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        for_every_key_head<BackwardTask<T>>(context, gradients, d_out, out, lse, in, params);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_backward);

void attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    if (takes_bf16_attention(context, in))
        return attention_backward_bf16(context, gradients, d_out, out, lse, in, params);
    HWY_DYNAMIC_DISPATCH(attention_backward)(context, gradients, d_out, out, lse, in, params);
}

size_t attention_backward_scratch_bytes(const Context&, const AttentionInputs& in) {
    size_t bytes = 0;
    with_accumulation_type(accumulation_dtype(in.q.dtype), [&]<class A>(A) {
        bytes = static_cast<size_t>(BackwardScratch::plan<A>(in).total) * sizeof(A);
    });
    return bytes;
}

}  // namespace ballast::cpu
#endif

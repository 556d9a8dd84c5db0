// Runs the attention ops on a case of the oracle.
#pragma once

#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>

#include "tests/kernels/reference/attention.h"

namespace ballast::test {

/// Random q, k, v (and sink query) for the shapes of `x`, rounded to `dtype`.
inline void fill(AttentionCase& x, Dtype dtype, double spread = 1.0) {
    x.scale = 1 / std::sqrt(static_cast<double>(x.D));
    x.q = rounded(dtype, normal(x.B * x.T * x.H * x.D, "q", spread));
    x.k = rounded(dtype, normal(x.B * x.S * x.G * x.D, "k", spread));
    x.v = rounded(dtype, normal(x.B * x.S * x.G * x.D, "v"));
    x.d_out = rounded(dtype, normal(x.B * x.T * x.H * x.D, "d_out"));
    if (x.has_sink_query) x.sink_query = rounded(dtype, normal(x.B * x.T * x.H * x.D, "sink_query", spread));
    if (x.normaliser == Normaliser::sink_logit && x.sink_logit.empty()) {
        const Philox generator(kSeed, "sink_logit");
        for (int64_t h = 0; h < x.H; ++h)
            x.sink_logit.push_back(rounded(Dtype::f32, 20 * generator.uniform(static_cast<uint64_t>(h)) - 10));
    }
}

/// The kernels that a case is tested on: those the device starts with and, where they have an effect, all it has, or
/// the one that BALLAST_TEST_ATTENTION names (mma, wgmma): on a GPU a trap in one should not hide what the other does.
inline std::vector<AttentionKernels> kernels_for(const AttentionCase& x, Dtype dtype) {
    const bool choice = test_device() != Device::cpu && is_narrow(dtype) && x.D > 32 && x.D <= 128;
    if (!choice) return {AttentionKernels::automatic};
    const char* only = std::getenv("BALLAST_TEST_ATTENTION");
    if (only == nullptr) return {AttentionKernels::mma, AttentionKernels::wgmma};
    return {std::string_view(only) == "wgmma" ? AttentionKernels::wgmma : AttentionKernels::mma};
}

inline const char* name_of(AttentionKernels kernels) {
    constexpr const char* kNames[] = {"automatic", "mma", "wgmma"};
    return kNames[static_cast<int>(kernels)];
}

/// The tensors of one case in one dtype, and the ops on them.
class AttentionRun {
  public:
    AttentionRun(const AttentionCase& x, Dtype dtype)
        : case_(x),
          acc_(accumulation_dtype(dtype)),
          q(dtype, {x.B, x.T, x.H, x.D}, x.q),
          k(dtype, {x.B, x.S, x.G, x.D}, x.k),
          v(dtype, {x.B, x.S, x.G, x.D}, x.v),
          d_out(dtype, {x.B, x.T, x.H, x.D}, x.d_out),
          out(dtype, {x.B, x.T, x.H, x.D}),
          lse(acc_, {x.B, x.H, x.T}),
          d_q(dtype, {x.B, x.T, x.H, x.D}),
          d_k(dtype, {x.B, x.S, x.G, x.D}),
          d_v(dtype, {x.B, x.S, x.G, x.D}),
          weights(acc_, {x.B, x.H, x.T, x.S}),
          logits(acc_, {x.B, x.H, x.T, x.S}) {
        if (x.has_sink_query) {
            sink_query.emplace(dtype, std::vector<int64_t>{x.B, x.T, x.H, x.D}, x.sink_query);
            d_sink_query.emplace(dtype, std::vector<int64_t>{x.B, x.T, x.H, x.D});
        }
        if (x.normaliser == Normaliser::sink_logit) {
            sink_logit.emplace(acc_, std::vector<int64_t>{x.H}, x.sink_logit);
            d_sink_logit.emplace(acc_, std::vector<int64_t>{x.H}, Values(static_cast<size_t>(x.H), 1.0));
        }
        if (!x.alibi.empty()) alibi_.emplace(acc_, std::vector<int64_t>{x.H}, x.alibi);
        if (!x.span.empty()) span_.emplace(std::vector<int64_t>{x.H}, x.span);
        if (!x.query_position.empty()) query_position.emplace(std::vector<int64_t>{x.B, x.T}, x.query_position);
        if (!x.first_key.empty()) first_key.emplace(std::vector<int64_t>{x.B, x.T}, x.first_key);
    }

    ops::AttentionInputs inputs() const { return {q, k, v, optional(sink_query)}; }
    ops::AttentionParams params() const {
        ops::AttentionParams p;
        p.scale = case_.scale;
        p.normaliser = case_.normaliser;
        p.sink_logit_H = optional(sink_logit);
        p.alibi_slope_H = optional(alibi_);
        p.mask = {case_.sinks,     case_.query_start,        case_.key_start,
                  optional(span_), optional(query_position), optional(first_key)};
        p.sink_query_position = case_.sink_query_position;
        return p;
    }
    void forward(Context& context) { ops::attention_forward(context, out, lse, inputs(), params()); }
    void backward(Context& context) {
        ops::attention_backward(context, {d_q, d_k, d_v, optional(d_sink_query), optional(d_sink_logit)}, d_out, out, lse,
                                inputs(), params());
    }
    void measure(Context& context) {
        ops::attention_weights(context, weights, lse, inputs(), params());
        ops::attention_logits(context, logits, inputs(), params());
    }

  private:
    static Tensor optional(const std::optional<TestTensor>& tensor) { return tensor ? tensor->tensor() : Tensor(); }

    const AttentionCase& case_;
    Dtype acc_;
    std::optional<TestTensor> alibi_, span_;

  public:
    TestTensor q, k, v, d_out, out, lse, d_q, d_k, d_v, weights, logits;
    std::optional<TestTensor> sink_query, d_sink_query, sink_logit, d_sink_logit, query_position, first_key;
};

/// Every combination of normaliser, mask, bias and grouping on shapes [B,T,H,D] of `shape`.
inline std::vector<AttentionCase> attention_variants(AttentionCase shape) {
    std::vector<AttentionCase> cases;
    shape.H = 4;
    for (Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one, Normaliser::sink_logit})
        for (int mask = 0; mask < 5; ++mask)
            for (bool alibi : {false, true}) {
                AttentionCase x = shape;
                x.G = mask % 2 == 0 ? 4 : mask == 1 ? 2 : 1;
                x.normaliser = normaliser;
                const int32_t t = static_cast<int32_t>(shape.T);
                if (mask == 1) x.span = {0, 1, t / 2, -1};                             // windows of several sizes
                if (mask == 2) x.sinks = x.key_start = 2;                              // sinks that change nothing
                if (mask >= 3) {                                                       // streaming: sinks and windows
                    x.sinks = x.key_start = 3;
                    x.span = {1, 2, t / 3, t};
                    x.has_sink_query = mask == 4;
                    x.sink_query_position = shape.T / 2;
                }
                if (alibi) x.alibi = {0.5, 0.25, 0.125, 0.0625};
                cases.push_back(x);
            }
    return cases;
}

inline std::string describe(const AttentionCase& x) {
    std::ostringstream text;
    text << "B " << x.B << " T " << x.T << " S " << x.S << " H " << x.H << " G " << x.G << " D " << x.D << " normaliser "
         << static_cast<int>(x.normaliser) << " sinks " << x.sinks << " key_start " << x.key_start << " query_start "
         << x.query_start << " spans " << x.span.size() << " alibi " << x.alibi.size() << " sink query " << x.has_sink_query
         << " rows " << !x.query_position.empty() << !x.first_key.empty();
    return text.str();
}

}  // namespace ballast::test

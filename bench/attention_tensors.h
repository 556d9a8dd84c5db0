// The shapes at which attention is timed, and its tensors.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "kernels/ops.h"

namespace ballast::bench {

struct AttentionShape {
    const char* model;
    int64_t B, T, H, D;

    /// The useful operations of the forward pass under a causal mask: two products of T²/2 pairs. The backward pass has
    /// five products.
    double forward_flops() const {
        return 2 * static_cast<double>(B * H) * static_cast<double>(T) * static_cast<double>(T) *
               static_cast<double>(D);
    }
    double backward_flops() const { return 2.5 * forward_flops(); }
};

/// Pythia's heads and one shape with heads of 128. T from 512 to 32k, 32k tokens in total each; the shape of the speed
/// targets (T = 2048) first, the longest last.
inline std::vector<AttentionShape> attention_shapes(bool smoke) {
    if (smoke) return {{"smoke", 1, 32, 2, 16}};
    std::vector<AttentionShape> shapes;
    constexpr AttentionShape kModels[] = {{"pythia-160m", 0, 0, 12, 64},
                                          {"pythia-410m", 0, 0, 16, 64},
                                          {"head-128", 0, 0, 16, 128},
                                          {"pythia-1b", 0, 0, 8, 256}};
    for (const int64_t T : {2048, 512, 8192, 32768})
        for (const AttentionShape& model : kModels) shapes.push_back({model.model, 32768 / T, T, model.H, model.D});
    return shapes;
}

/// q, k, v, outputs and gradients for one shape, [B,T,H,D].
struct AttentionTensors {
    AttentionTensors(Context& context, const AttentionShape& s, Dtype dtype, Normaliser normaliser)
        : tensors(context), acc(accumulation_dtype(dtype)) {
        const auto random = [&] { return tensors.make(dtype, {s.B, s.T, s.H, s.D}, 2.0); };
        const auto empty = [&] { return tensors.zeros(dtype, {s.B, s.T, s.H, s.D}); };
        in = {random(), random(), random(), {}};
        d_out = random();
        out = empty();
        lse = tensors.zeros(acc, {s.B, s.H, s.T});
        gradients = {empty(), empty(), empty(), {}, {}};
        params.scale = 1 / std::sqrt(static_cast<double>(s.D));
        params.normaliser = normaliser;
        if (has_learned_sink_logit(normaliser)) {
            params.sink_logit_H = tensors.make(acc, {s.H});
            gradients.d_sink_logit_H = tensors.zeros(acc, {s.H});
        }
    }
    void forward(Context& context) const { ops::attention_forward(context, out, lse, in, params); }
    void backward(Context& context) const { ops::attention_backward(context, gradients, d_out, out, lse, in, params); }

    Tensors tensors;
    Dtype acc;
    ops::AttentionInputs in;
    ops::AttentionParams params;
    ops::AttentionGradients gradients;
    Tensor d_out, out, lse;
};

}  // namespace ballast::bench

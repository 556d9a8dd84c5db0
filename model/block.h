// One transformer layer, forward and backward, as a visible list of ops.
//
//   parallel residual:    y = x + Attn(N1(x)) + MLP(N2(x)), N2 = N1 when the norm is shared
//   sequential residual:  u = x + Attn(N1(x));  y = u + MLP(N2(u))
//   Attn(z) = dense(heads(z)), or dense(heads(z) * sigmoid(gate z)), a number a head, with a headwise gate
//   MLP(z) = down(gelu(up z)), or down(silu(gate z) * up z) when gated
//
// Norms are LayerNorms or RMSNorms, and every bias is optional: what a model lacks is an absent tensor.
//
// The residual stream is normalised where it is written: a layer ends by writing y together with the norms that the
// next layer, or the head, reads of it (ResidualNorms). N1 and N2 of the parallel residual have the same statistics.
//
// Attention between the QKV projection and the output projection is passed in: training runs one causal kernel,
// decoding goes through a cache, streaming evaluation carries keys from chunk to chunk. Everything else is the same for
// all.
//
// Shapes: N = B*T rows; C hidden, F feed-forward, H heads, G key-value heads, D head dim, M = (H + 2G) D; U = F, or 2F
// of a gated MLP: gates and ups.
#pragma once

#include <functional>
#include <vector>

#include "base/arena.h"
#include "model/config.h"
#include "model/weights.h"

namespace ballast::model {

/// The parameters of one layer, or their gradients: compute-dtype weights or acc-dtype gradients by the same names. All
/// absent: gradients that nobody wants.
struct LayerParameters {
    Tensor norm1_weight, norm1_bias;     // [C]
    Tensor norm2_weight, norm2_bias;     // [C]; absent when shared
    ops::LinearWeight query_key_value;   // [M,C], [M]
    ops::LinearWeight attention_dense;   // [C,H*D], [C]
    Tensor attention_sinks;              // acc [H]; absent unless learned
    ops::LinearWeight attention_gate;    // [H,C]; absent unless gated
    ops::LinearWeight mlp_up, mlp_down;  // [U,C], [U]; [C,F], [C]
};
LayerParameters layer_weights(const Weights& weights, int64_t layer);
LayerParameters layer_gradients(const ParameterTable& table, const FlatArray& gradients, int64_t layer);

/// What one layer leaves behind for its backward pass.
struct LayerActivations {
    Tensor norm1_out, norm1_mean, norm1_rstd;  // [N,C], acc [N]; the statistics are norm2's too when parallel
    Tensor unclipped_qkv;                      // [N,M]; absent unless the model clips
    Tensor q, k, v;                            // [B,T,H,D], [B,T,G,D]; q and k rotated
    Tensor gate;                               // [B,T,H], before the sigmoid; absent unless the heads are gated
    Tensor attention_out, lse;                 // [B,T,H,D], acc [B,H,T]
    Tensor middle;                             // [N,C] u of the sequential residual; absent when parallel
    Tensor norm2_out;                          // [N,C]; norm1_out when shared
    Tensor norm2_mean, norm2_rstd;  // acc [N], of `middle`; absent when parallel. No norm but LayerNorm has means
    Tensor mlp_pre;                 // [N,U] what the activation is taken of, bias included
    Tensor mlp_hidden;              // [N,F]

    LayerActivations() = default;
    /// `shared_attention`: a layer whose q, k, v, attention_out and lse this one uses in turn, instead of its own.
    LayerActivations(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t batch, int64_t length,
                     const LayerActivations* shared_attention = nullptr);
};

/// The linear layers by their inputs x [N,I]: the projections to q, k and v and back, the MLP's two, and the head.
enum class LinearInput { qkv, out, up, down, head };
/// Called before a linear layer reads its input, which it may change in place.
using LinearInputHook = std::function<void(LinearInput, const Tensor& x_NI)>;

/// What every layer uses in turn.
struct BlockTemporaries {
    Tensor qkv;                    // [N,M]
    Tensor gated_heads;            // [B,T,H,D] attention_out times its gates; absent unless the heads are gated
    Tensor attention_proj;         // [N,C]
    Tensor mlp_proj;               // [N,C]
    LinearInputHook linear_input;  // measurements hook in here; empty while training
    ops::Products products = ops::Products::gemm;  // of forward

    BlockTemporaries() = default;
    BlockTemporaries(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t batch, int64_t length);

    /// x, after whoever hooked in has seen it.
    Tensor before(LinearInput which, const Tensor& x_NI) const {
        if (linear_input) linear_input(which, x_NI);
        return x_NI;
    }
};

/// Fills activations.q, k, v (where it keeps them), attention_out and lse from qkv [B,T,M].
using AttendForward = std::function<void(const Tensor& qkv, const LayerActivations&)>;

/// The norms that are taken of the residual stream at one place, and their common statistics.
struct ResidualNorms {
    std::vector<ops::NormOutput> outputs;  // one or two
    Tensor mean, rstd;                     // acc [N]
};
/// Of a layer's input: N1, and N2 when parallel and not shared.
ResidualNorms input_norms(const ModelConfig&, const LayerParameters&, const LayerActivations&);

/// Fills q, k, v, attention_out and lse from norm1_out.
void attention_branch_forward(Context&, const ModelConfig&, const LayerParameters&, const LayerActivations&,
                              const BlockTemporaries&, const AttendForward& attend);
/// Fills the activations from x [N,C] and its norms: the part of a layer that its backward pass reads.
void block_activations_forward(Context&, const ModelConfig&, const LayerParameters&, const LayerActivations&,
                               const BlockTemporaries&, const Tensor& x, const AttendForward& attend);
/// The whole layer: y [N,C] and what comes next of it from x [N,C] and its norms; y may not be x.
void block_forward(Context&, const ModelConfig&, const LayerParameters&, const LayerActivations&,
                   const BlockTemporaries&, const Tensor& y, const ResidualNorms& next, const Tensor& x,
                   const AttendForward& attend);

struct BlockGradients {
    Tensor d_norm1_out, d_norm2_out;  // [N,C]
    Tensor d_attention_out;           // [B,T,H,D]
    Tensor d_q, d_k, d_v;             // [B,T,H,D], [B,T,G,D]
    Tensor d_qkv;                     // [N,M]
    Tensor d_gate;                    // [B,T,H]; absent, as the next, unless the heads are gated
    Tensor d_norm1_of_gate;           // [N,C] the gates' part of d_norm1_out
    Tensor d_mlp_hidden;              // [N,F]; absent unless the MLP is gated
    Tensor d_mlp_pre;                 // [N,U]

    BlockGradients() = default;
    BlockGradients(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t batch, int64_t length);
};

/// Fills d_qkv [B,T,M] from d_attention_out and adds to the layer's sink gradient.
using AttendBackward = std::function<void(const BlockGradients&, const LayerActivations&)>;

/// d_x [N,C] holds dL/dy on entry and dL/dx on return; parameter gradients accumulate into those of `d` that are
/// present.
void block_backward(Context&, const ModelConfig&, const LayerParameters&, const LayerParameters& d,
                    const LayerActivations&, const BlockTemporaries&, const BlockGradients&, const Tensor& d_x,
                    const Tensor& x, const AttendBackward& attend);

}  // namespace ballast::model

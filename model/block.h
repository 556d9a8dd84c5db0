// One transformer layer, forward and backward, as a visible list of ops.
//
//   parallel residual:    y = x + Attn(N1(x)) + MLP(N2(x)), N2 = N1 when the norm is shared
//   sequential residual:  u = x + Attn(N1(x));  y = u + MLP(N2(u))
//   Attn(z) = dense(heads(z)), or dense(heads(z) * sigmoid(gate z)) with a headwise gate: one gate per head
//   MLP(z) = down(gelu(up z)), or down(silu(gate z) * up z) when gated
//
// Norms are LayerNorms or RMSNorms, and every bias is optional: an absent tensor marks a part that the model lacks.
//
// The residual stream is normalised where it is written: a layer ends by writing y together with the norms of y that
// the next layer, or the head, reads (ResidualNorms). N1 and N2 of the parallel residual have the same statistics.
//
// The caller passes in the attention between the QKV projection and the output projection: training runs one causal
// kernel, decoding reads a cache, streaming evaluation carries keys from chunk to chunk. The rest of the layer is the
// same for all of them.
//
// Shapes: N = B*T rows; C hidden, F feed-forward, H heads, G key-value heads, D head dim, M = (H + 2G) D. U = F, or 2F
// for a gated MLP (gates, then ups).
#pragma once

#include <functional>
#include <vector>

#include "base/arena.h"
#include "model/config.h"
#include "model/weights.h"

namespace ballast::model {

/// The parameters of one layer (compute dtype), or their gradients (acc) under the same names. All tensors are absent
/// when no gradients are wanted.
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

/// The activations of one layer that its backward pass reads.
struct LayerActivations {
    Tensor norm1_out, norm1_mean, norm1_rstd;  // [N,C], acc [N]; if parallel, norm2 has the same statistics
    Tensor unclipped_qkv;                      // [N,M]; absent unless the model clips
    Tensor q, k, v;                            // [B,T,H,D], [B,T,G,D]; q and k rotated
    Tensor gate;                               // [B,T,H], before the sigmoid; absent unless the heads are gated
    Tensor attention_out, lse;                 // [B,T,H,D], acc [B,H,T]
    Tensor middle;                             // [N,C] u of the sequential residual; absent when parallel
    Tensor norm2_out;                          // [N,C]; norm1_out when shared
    Tensor norm2_mean, norm2_rstd;  // acc [N], of `middle`; absent when parallel. Only LayerNorm has means
    Tensor mlp_pre;                 // [N,U] the activation function's input, bias included
    Tensor mlp_hidden;              // [N,F]

    LayerActivations() = default;
    /// `shared_attention`: a layer whose q, k, v, attention_out and lse tensors this layer shares instead of having its
    /// own.
    LayerActivations(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t batch, int64_t length,
                     const LayerActivations* shared_attention = nullptr);
};

/// The linear layers, named by their inputs x [N,I]: the QKV and output projections, the MLP's two layers, and the
/// head.
enum class LinearInput { qkv, out, up, down, head };
/// Called before a linear layer reads its input. The hook may change the input in place.
using LinearInputHook = std::function<void(LinearInput, const Tensor& x_NI)>;

/// Temporaries that the layers share, one layer after another.
struct BlockTemporaries {
    Tensor qkv;                    // [N,M]
    Tensor gated_heads;            // [B,T,H,D] attention_out times its gates; absent unless the heads are gated
    Tensor attention_proj;         // [N,C]
    Tensor mlp_proj;               // [N,C]
    LinearInputHook linear_input;  // a hook for measurements; empty while training
    ops::Products products = ops::Products::gemm;  // for forward passes

    BlockTemporaries() = default;
    BlockTemporaries(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t batch, int64_t length);

    /// Calls the hook on x, if there is one, and returns x.
    Tensor before(LinearInput which, const Tensor& x_NI) const {
        if (linear_input) linear_input(which, x_NI);
        return x_NI;
    }
};

/// Computes q, k, v (stored where the activations have these tensors), attention_out and lse from qkv [B,T,M].
using AttendForward = std::function<void(const Tensor& qkv, const LayerActivations&)>;

/// The norms of the residual stream at one place, and their shared statistics.
struct ResidualNorms {
    std::vector<ops::NormOutput> outputs;  // one or two
    Tensor mean, rstd;                     // acc [N]
};
/// The norms of a layer's input: N1, and also N2 when the residual is parallel and the norm is not shared.
ResidualNorms input_norms(const ModelConfig&, const LayerParameters&, const LayerActivations&);

/// Computes q, k, v, attention_out and lse from norm1_out.
void attention_branch_forward(Context&, const ModelConfig&, const LayerParameters&, const LayerActivations&,
                              const BlockTemporaries&, const AttendForward& attend);
/// Computes the activations that the layer's backward pass reads, from x [N,C] and its norms.
void block_activations_forward(Context&, const ModelConfig&, const LayerParameters&, const LayerActivations&,
                               const BlockTemporaries&, const Tensor& x, const AttendForward& attend);
/// The whole layer: computes y [N,C] and the norms of y from x [N,C] and its norms. y may not be x.
void block_forward(Context&, const ModelConfig&, const LayerParameters&, const LayerActivations&,
                   const BlockTemporaries&, const Tensor& y, const ResidualNorms& next, const Tensor& x,
                   const AttendForward& attend);

struct BlockGradients {
    Tensor d_norm1_out, d_norm2_out;  // [N,C]
    Tensor d_attention_out;           // [B,T,H,D]
    Tensor d_q, d_k, d_v;             // [B,T,H,D], [B,T,G,D]
    Tensor d_qkv;                     // [N,M]
    Tensor d_gate;                    // [B,T,H]; absent, as the next, unless the heads are gated
    Tensor d_norm1_of_gate;           // [N,C] the part of d_norm1_out that comes through the gates
    Tensor d_mlp_hidden;              // [N,F]; absent unless the MLP is gated
    Tensor d_mlp_pre;                 // [N,U]

    BlockGradients() = default;
    BlockGradients(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t batch, int64_t length);
};

/// Computes d_qkv [B,T,M] from d_attention_out and adds to the layer's sink logit gradient.
using AttendBackward = std::function<void(const BlockGradients&, const LayerActivations&)>;

/// d_x [N,C] holds dL/dy on entry and dL/dx on return. Parameter gradients are added to the tensors present in `d`.
void block_backward(Context&, const ModelConfig&, const LayerParameters&, const LayerParameters& d,
                    const LayerActivations&, const BlockTemporaries&, const BlockGradients&, const Tensor& d_x,
                    const Tensor& x, const AttendBackward& attend);

}  // namespace ballast::model

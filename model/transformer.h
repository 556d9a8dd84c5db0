// The whole model on a batch of full sequences: embedding, layers, final norm, fused head and loss.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/block.h"
#include "model/family.h"
#include "model/positions.h"

namespace ballast::model {

/// The kind of a pass; it decides which activations are kept.
enum class PassKind { forward, forward_backward };

/// The activations that the backward pass recomputes instead of storing them. The bits are the same.
///   attention  q, k, v and the attention's output: 4 of the 14 tensors [N,C] that a layer of GPT-NeoX stores
///   full       all activations of a layer except its input
enum class Recompute { none, attention, full };

/// Every tensor of a pass over B sequences of T positions, in one planned block of memory.
struct Activations {
    Tensor ids, targets;  // i32 [N]
    std::vector<Tensor>
        residual;  // x before each layer and after the last: [N,C] each (forward only: two that alternate)
    std::vector<LayerActivations> layers;  // one per layer (one for all: forward only, or full recomputation)
    BlockTemporaries temporaries;
    Tensor final_out, final_mean, final_rstd;  // the normalised last x
    Tensor losses;                             // acc [N]
    Tensor d_x, d_final_out;                   // [N,C]
    BlockGradients gradients;

    Activations() = default;
    Activations(Arena& arena, const ModelConfig& config, Dtype dtype, PassKind kind, int64_t batch, int64_t length,
                Recompute recompute = Recompute::none);

    const Tensor& residual_stream(int64_t i) const { return residual[static_cast<size_t>(i) % residual.size()]; }
    const LayerActivations& layer(int64_t l) const { return layers[static_cast<size_t>(l) % layers.size()]; }
};

class Transformer {
  public:
    /// Allocates the weights (zero), in the dtypes that Weights describes; initialise or load them before use. `config`
    /// must be validated. UserError when the device cannot compute in the dtype.
    Transformer(Context& context, const ModelConfig& config, Dtype compute_dtype, WeightUse use = WeightUse::training,
                std::optional<Dtype> matrices = std::nullopt);

    const ModelConfig& config() const { return config_; }
    Dtype dtype() const { return weights_.compute_dtype(); }
    Weights& weights() { return weights_; }
    const Weights& weights() const { return weights_; }
    PositionTables& positions() { return positions_; }
    const LayerParameters& layer(int64_t l) const { return layers_[static_cast<size_t>(l)]; }
    /// The weight of the head, [V,C].
    ops::LinearWeight head() const { return weights_.stored(head_row()); }
    ops::QkvLayout qkv_layout() const { return family_of(config_).qkv_layout; }
    /// Attention's parameters for a layer: scale, normaliser, sinks, ALiBi and window. Sink tokens stay visible through
    /// the window. The caller sets the rest of the mask.
    ops::AttentionParams attention(int64_t layer) const;

    /// Computes q, k, v (stored where the layer has these tensors), attention_out and lse of a layer from its qkv
    /// [B,T,M].
    using Attend = std::function<void(int64_t layer, const Tensor& qkv, const LayerActivations&)>;
    /// Called after each layer's forward pass with its number and activations, for measurements. Where layers share
    /// activations, norm1_out and norm2_out already hold the next layer's norms.
    using LayerObserver = std::function<void(int64_t layer, const LayerActivations&)>;
    /// The embedding, the layers and the final norm: reads a.ids, writes a.final_out.
    void forward_layers(Context& context, const Activations& a, const Attend& attend,
                        const LayerObserver& observer = {}) const;
    /// Recomputes only the norms of layer l's input, after they were overwritten.
    void normalise_input(Context& context, int64_t l, const Activations& a) const;
    /// logits acc [N,V] for rows of final_out [N,C].
    void head_logits(Context& context, const Tensor& logits, const Tensor& final_out,
                     ops::Products products = ops::Products::gemm) const;
    /// losses acc [N] for rows of final_out and their targets.
    void head_losses(Context& context, const Tensor& losses, const Tensor& final_out, const Tensor& targets) const;

  private:
    friend class Pass;
    /// The norms of the residual stream after layer l - 1, read by layer l or by the head.
    ResidualNorms residual_norms(int64_t l, const Activations& a) const;
    const ParameterRow& head_row() const;


    ModelConfig config_;
    Weights weights_;
    PositionTables positions_;
    std::vector<LayerParameters> layers_;
};

/// A pass of fixed shape with its memory. One model may have several (training, validation).
class Pass {
  public:
    Pass(Context& context, Transformer& model, PassKind kind, int64_t batch, int64_t length,
         Recompute recompute = Recompute::none);

    /// The bytes of activations and of the ops' scratch memory for such a pass, when `matrices` are stored in their own
    /// dtype and `products` selects the kind of product. Known before anything is allocated.
    static size_t activation_bytes(const ModelConfig& config, Dtype dtype, PassKind kind, int64_t batch, int64_t length,
                                   Recompute recompute = Recompute::none);
    static size_t scratch_bytes(const Context& context, const ModelConfig& config, Dtype dtype, PassKind kind,
                                int64_t batch, int64_t length, std::optional<Dtype> matrices = std::nullopt,
                                ops::Products products = ops::Products::gemm);

    int64_t batch() const { return batch_; }
    int64_t length() const { return length_; }

    /// Sets ids and next-token targets (-1: no target), both [B*T] on the host.
    void set_tokens(std::span<const int32_t> ids, std::span<const int32_t> targets);
    /// The same from tensors i32 [B*T] on the device, which the pass reads when it runs. `first_keys`, i32 [B*T] or
    /// absent: the first position that each query sees besides the model's sink tokens (AttentionMask::first_key_BT).
    void use_tokens(const Tensor& ids, const Tensor& targets, const Tensor& first_keys = {});
    /// Runs the layers and the loss. losses() then holds one value per row (0 where there is no target).
    void forward();
    /// The same, and adds d(f * sum of losses) to `gradients` (acc, laid out by the parameter table). f is loss_factor
    /// times the loss scale in the step's scalars, where they are given.
    void forward_backward(const FlatArray& gradients, double loss_factor, const ops::StepScalarsTensor& scalars = {});
    /// Called in the backward pass, from the last layer to the first, when a layer's d_attention_out is complete. q, k,
    /// v, attention_out and lse are those of the forward pass.
    using GradientObserver = std::function<void(int64_t layer, const BlockGradients&, const LayerActivations&)>;
    /// forward_backward() without parameter gradients, to look at the gradients of activations. The model may hold
    /// weights for inference only.
    void backward_activations(double loss_factor, const GradientObserver& observer);
    /// Runs the layers on ids [B*T], and the head on the last position of each sequence alone, whose targets are
    /// `targets` [B]. The losses acc [B].
    Tensor forward_last(std::span<const int32_t> ids, std::span<const int32_t> targets);
    /// Runs the layers and writes logits acc [N,V].
    void forward_logits(const Tensor& logits);

    Tensor losses() const { return a_.losses; }
    const Activations& activations() const { return a_; }

    /// Called by forward_backward() when the gradients of a part are finished: see backward_part().
    using PartObserver = std::function<void(int64_t part)>;
    void observe_gradients(PartObserver observer) { part_observer_ = std::move(observer); }

    using LayerObserver = Transformer::LayerObserver;
    void observe_layers(LayerObserver observer) { observer_ = std::move(observer); }
    /// The hook for forward() and forward_logits().
    void observe_linear_inputs(LinearInputHook hook) { a_.temporaries.linear_input = std::move(hook); }

  private:
    void forward_layers();
    /// Writes gradients to `gradients`; null: no parameter gradients.
    void run_backward(const FlatArray* gradients, double loss_factor, const ops::StepScalarsTensor& scalars,
                      const GradientObserver& observer);
    /// Computes the loss, and d_x [N,C] before the final norm.
    void head_and_loss(const FlatArray* gradients, double loss_factor, const ops::StepScalarsTensor& scalars);
    void backward_layers(const FlatArray* gradients, const GradientObserver& observer);
    void finished(int64_t part, const FlatArray* gradients) const {
        if (gradients != nullptr && part_observer_) part_observer_(part);
    }
    /// Recomputes activations that layer l's backward pass reads and later layers have overwritten.
    void recompute(int64_t layer);
    ops::AttentionParams attention(int64_t layer) const;
    void attend_forward(int64_t layer, const Tensor& qkv, const LayerActivations& a);
    void attend_backward(int64_t layer, const LayerParameters& d, const BlockGradients& g, const LayerActivations& a);

    Context& context_;
    Transformer& model_;
    PassKind kind_;
    Recompute recompute_;
    int64_t batch_, length_;
    DeviceBuffer buffer_;
    Activations a_;
    Tensor first_keys_;  // i32 [B,T] or absent
    LayerObserver observer_;
    PartObserver part_observer_;
};

}  // namespace ballast::model

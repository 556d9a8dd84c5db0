// Runs items through a model and sums the influence of every attention value.
#pragma once

#include "kernels/context.h"
#include "model/transformer.h"
#include "moa/items.h"
#include "moa/profile_file.h"

namespace ballast::moa {

/// A profile of `model` without sequences. `draws` as in Profile. UserError for lengths beyond the model's positions,
/// or with fewer than two blocks.
Profile empty_profile(const model::ModelConfig& config, std::vector<int64_t> lengths, int64_t block, int64_t draws);

/// Passes of one length: forward, backward to the activations alone, and in every layer ops::attention_influence on the
/// loss's gradient. No T x T buffer and no parameter gradients.
///
/// Second-order losses: the expected loss of a trained model is at a minimum with respect to its own predictions. So
/// hiding keys changes nothing to first order. It costs half of d^T F d, where d is the change of the predictions and F
/// is the Fisher information. Draw labels y_t from the model, and let S be the effect of a span on the loss -sum over t
/// of log p(y_t) (ops::attention_span_effect). Then the cost is E[S^2] / 2, because scores of different tokens are
/// uncorrelated. Each draw is another pass.
class Profiler {
  public:
    Profiler(Context& context, model::Transformer& model, int64_t length, int64_t block, int64_t draws);

    /// The device memory of a Profiler.
    static size_t bytes(const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block, int64_t draws);

    /// Adds one item of at most `length` tokens; missing positions after it have no loss and no influence. The item's
    /// loss is the mean over its scored tokens, and E refers to that loss. Returns the loss. RunError, with nothing
    /// added, when the loss or an influence is not finite.
    double add(const ItemTokens& item, LengthProfile& to);

  private:
    /// The results for one item.
    struct Layout {
        Tensor absolute, signed_sum;  // acc [L,H,I,I]
        Tensor effect;                // acc [L,H,I - 1], of one draw; these two only with draws
        Tensor logits;                // acc [N,V] of some of its positions

        Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block,
               int64_t draws);
    };

    std::vector<double> on_host(const Tensor& tensor) const;
    /// For each scored position, running sums of e^(logit - maximum) over the vocabulary, from which labels are drawn.
    std::vector<std::vector<double>> distributions(const ItemTokens& item);
    /// The item's targets, replaced by labels drawn from the model.
    std::vector<int32_t> draw_labels(const ItemTokens& item, const std::vector<std::vector<double>>& distributions,
                                     int64_t number) const;
    void add_draw(const ItemTokens& item, LengthProfile& to);

    Context& context_;
    model::Transformer& model_;
    int64_t length_, block_, draws_;
    model::Pass pass_;
    DeviceBuffer buffer_;
    Layout of_;
};

}  // namespace ballast::moa

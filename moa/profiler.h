// Runs items through a model and sums the influence of every attention value.
#pragma once

#include "infer/cache_sizes.h"
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

    /// The memory of a profile and of the Profiler of its longest length, on the context's device; the host's own is
    /// not listed for a GPU. Nothing is allocated. UserError for lengths as in empty_profile().
    static infer::MemoryList memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                    const std::vector<int64_t>& lengths, int64_t block, int64_t draws);

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

    /// Labellings of the item, `draws` of them from number `first` on: its targets, replaced by labels drawn from the
    /// model. All at once, as a draw's own pass overwrites what the labels come from.
    std::vector<std::vector<int32_t>> draw_labels(const ItemTokens& item, int64_t first);
    void add_draw(const ItemTokens& item, LengthProfile& to);

    Context& context_;
    model::Transformer& model_;
    int64_t length_, block_, draws_;
    model::Pass pass_;
    DeviceBuffer buffer_;
    Layout of_;
};

}  // namespace ballast::moa

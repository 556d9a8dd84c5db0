// Runs items through a model and adds up the influence of every attention value.
#pragma once

#include "kernels/context.h"
#include "model/transformer.h"
#include "moa/items.h"
#include "moa/profile_file.h"

namespace ballast::moa {

/// A profile of `model` without a sequence. `draws` as in Profile. UserError for lengths beyond the model's positions,
/// or fewer than two blocks.
Profile empty_profile(const model::ModelConfig& config, std::vector<int64_t> lengths, int64_t block, int64_t draws);

/// Passes of one length: forward, backward to the activations alone, and in every layer ops::attention_influence on
/// what the loss's gradient is there. No T x T buffer, no gradient of a parameter.
///
/// Second-order losses: a trained model's expected loss is at a minimum of its own predictions, so to first order
/// hiding keys changes nothing, and what it costs is a half of d^T F d, d what it changes and F the Fisher information.
/// With labels y_t drawn from the model and S the effect of a span on the loss -sum over t of log p(y_t)
/// (ops::attention_span_effect), that is E[S^2] / 2, as scores of different tokens are uncorrelated. Each draw is
/// another pass.
class Profiler {
  public:
    Profiler(Context& context, model::Transformer& model, int64_t length, int64_t block, int64_t draws);

    /// Device memory of one.
    static size_t bytes(const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block, int64_t draws);

    /// Adds one item of at most `length` tokens; what is missing behind it has no loss, and no influence. Its loss is
    /// the mean over the tokens that are scored, so E is in the loss of one item. Returns that loss. RunError, with
    /// nothing added, when it or an influence is not finite.
    double add(const ItemTokens& item, LengthProfile& to);

  private:
    /// What is measured of one item.
    struct Layout {
        Tensor absolute, signed_sum;  // acc [L,H,I,I]
        Tensor effect;                // acc [L,H,I - 1], of one draw; these two only with draws
        Tensor logits;                // acc [N,V] of some of its positions

        Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block,
               int64_t draws);
    };

    std::vector<double> on_host(const Tensor& tensor) const;
    /// For each scored position, running sums of e^(logit - maximum) over the vocabulary: what labels are drawn by.
    std::vector<std::vector<double>> distributions(const ItemTokens& item);
    /// The item's targets with labels that the model draws.
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

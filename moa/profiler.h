// Runs items through a model and adds up the influence of every attention value.
#pragma once

#include "kernels/context.h"
#include "model/transformer.h"
#include "moa/items.h"
#include "moa/profile_file.h"

namespace ballast::moa {

/// A profile of `model` without a sequence. UserError for lengths beyond the model's positions, or fewer than two
/// blocks.
Profile empty_profile(const model::ModelConfig& config, std::vector<int64_t> lengths, int64_t block);

/// Passes of one length: forward, backward to the activations alone, and in every layer ops::attention_influence on
/// what the loss's gradient is there. No T x T buffer, no gradient of a parameter.
class Profiler {
  public:
    Profiler(Context& context, model::Transformer& model, int64_t length, int64_t block);

    /// Device memory of one.
    static size_t bytes(const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block);

    /// Adds one item of at most `length` tokens; what is missing behind it has no loss, and no influence. Its loss is
    /// the mean over the tokens that are scored, so E is in the loss of one item. Returns that loss. RunError, with
    /// nothing added, when it or an influence is not finite.
    double add(const ItemTokens& item, LengthProfile& to);

  private:
    Context& context_;
    model::Transformer& model_;
    int64_t length_, block_;
    model::Pass pass_;
    DeviceBuffer buffer_;
    Tensor absolute_, signed_sum_;  // acc [L,H,I,I], of one item
};

}  // namespace ballast::moa

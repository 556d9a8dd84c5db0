// Token-by-token decoding through the literal cache, one sequence at a time, with one policy for all heads: the oracle
// of the masked pass and of every faster cache. It stays literal, whatever that costs.
#pragma once

#include "infer/key_value_cache.h"
#include "model/transformer.h"

namespace ballast::infer {

class Decoder {
  public:
    /// `max_positions`: the most tokens a dense cache will hold; a bounded policy needs only its capacity + 1.
    Decoder(Context& context, model::Transformer& model, const CachePolicy& policy, int64_t max_positions);

    /// Device memory of such a decoder, and of the ops' scratch that its steps need, known before it is made.
    static size_t bytes(const model::ModelConfig& config, Dtype dtype, const CachePolicy& policy,
                        int64_t max_positions);
    static size_t scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                const CachePolicy& policy, int64_t max_positions);

    /// Feeds tokens as one step (a prompt; later a single token): they attend to the cache and, causally, to each
    /// other, at cache positions size, size + 1, …; then the policy evicts. More than one token needs size + count <=
    /// capacity + 1.
    void feed(std::span<const int32_t> tokens);
    /// Forgets what was fed.
    void reset();
    /// Logits of the last token fed, [V].
    std::vector<float> logits();
    /// -log p(next) after the last token fed.
    double loss(int32_t next);

    const KeyValueCache& cache() const { return cache_; }

  private:
    struct Layout {
        Tensor rotated_keys;  // [1,max_rows,G,D]
        Tensor next, loss;    // i32 [1], acc [1]
        Tensor logits;        // acc [1,V]

        Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t max_rows);
    };

    static size_t own_bytes(const model::ModelConfig& config, Dtype dtype, int64_t max_rows);
    void attend(int64_t layer, const Tensor& qkv, const model::LayerActivations& a);
    /// final_out of the last token fed.
    Tensor last_row() const;

    Context& context_;
    model::Transformer& model_;
    KeyValueCache cache_;
    int64_t max_step_;
    DeviceBuffer step_buffer_, buffer_;
    Layout layout_;
    model::Activations a_;  // of the step under way, in step_buffer_
};

}  // namespace ballast::infer

// Token-by-token decoding with the literal cache: one sequence at a time, one policy for all heads. It is the oracle of
// the masked pass and of every faster cache, so it stays literal at any cost in speed.
// Its attention and the cache's eviction look like MaskedStream's and are written apart on purpose: a mistake in shared
// code would be in both.
#pragma once

#include "infer/cache_sizes.h"
#include "infer/key_value_cache.h"
#include "model/transformer.h"

namespace ballast::infer {

class Decoder {
  public:
    /// `max_positions`: the largest number of tokens in a dense cache; a bounded policy needs only its capacity + 1.
    Decoder(Context& context, model::Transformer& model, const CachePolicy& policy, int64_t max_positions);

    /// The device memory of a Decoder and of its ops' scratch, known before it is made.
    static MemoryList memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                             const CachePolicy& policy, int64_t max_positions);

    /// Feeds tokens as one step (a prompt, later a single token). They attend to the cache and, causally, to each
    /// other, at cache positions size, size + 1, …; then the policy evicts. More than one token needs size + count <=
    /// capacity + 1.
    void feed(std::span<const int32_t> tokens);
    /// Clears the cache.
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
    model::Activations a_;  // of the current step, in step_buffer_
};

}  // namespace ballast::infer

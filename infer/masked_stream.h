// Streaming evaluation as one masked pass. It gives the results that the literal cache computes token by token, but
// computes whole chunks of tokens at once.
//
// With sinks s and span r (C = s + r), query i sees keys j <= i with j < s or i - j <= r. Recent keys are at their true
// relative distance. For keys j < s the query has position min(i, C), its position in the cache. This equals the
// literal cache in every layer, because a key or value of layer l at position j depends only on the keys that position
// j saw. Heads may have different spans (CachePlan). Under the rule `absolute` the query has position i for the keys j
// < s too.
//
// Memory does not grow with the text. Between chunks each layer keeps the unrotated keys and the values of the first s
// and the last r positions, where r is the longest span of the plan. Angles stay small too: rows are rotated at their
// position in [sinks | carried | chunk].
#pragma once

#include <vector>

#include "infer/cache_plan.h"
#include "infer/cache_sizes.h"
#include "model/transformer.h"

namespace ballast::infer {

class MaskedStream {
  public:
    /// A plan that is not bounded carries all rows, so its memory grows with the text.
    MaskedStream(Context& context, model::Transformer& model, CachePlan plan, int64_t chunk);
    /// The same policy in every head.
    MaskedStream(Context& context, model::Transformer& model, const CachePolicy& policy, int64_t chunk);

    /// The device memory of such a stream over a text of `positions` tokens, for a model whose matrices are stored as
    /// `weights`; with the ops' scratch. Known before it is made.
    static MemoryList memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                             const CachePlan& plan, int64_t chunk, int64_t positions);

    /// Reads the next tokens of the stream (any number) with their targets (-1: none). Appends -log p(target) to
    /// `losses`, 0 where there is no target.
    void feed(std::span<const int32_t> tokens, std::span<const int32_t> targets, std::vector<float>& losses);

    int64_t position() const { return position_; }
    size_t memory_bytes() const {
        return buffer_.bytes() + store_buffer_.bytes() + rotated_buffer_.bytes() + sink_query_buffer_.bytes();
    }

  private:
    struct Carried {
        Tensor keys, values;  // [1,rows,G,D]: sinks, then consecutive recent positions; keys not rotated
    };
    /// The rows that are carried from chunk to chunk.
    struct Store {
        std::vector<Carried> layers;
        Tensor moving;  // [1,rows,G,D]: a buffer for rows that are being moved

        Store() = default;
        Store(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t rows);
    };

    void feed_chunk(std::span<const int32_t> tokens, std::span<const int32_t> targets, std::vector<float>& losses);
    void attend(int64_t layer, const Tensor& qkv, const model::LayerActivations& a);
    static size_t store_bytes(const model::ModelConfig& config, Dtype dtype, int64_t rows);
    static size_t rotated_bytes(const model::ModelConfig& config, Dtype dtype, int64_t rows);
    static size_t sink_query_bytes(const model::ModelConfig& config, Dtype dtype, int64_t chunk);
    static int64_t first_capacity(const CachePlan& plan, int64_t chunk);
    int64_t length_at(int64_t position) const;
    int64_t next_chunk(int64_t count) const;
    void reserve_rows(int64_t rows);
    void drop_old_rows();
    int64_t stored_sinks() const;
    void upload_spans();
    /// The largest position of the query for the first keys.
    int64_t sink_query_position() const;

    Context& context_;
    model::Transformer& model_;
    CachePlan plan_;
    int64_t chunk_;
    int64_t position_ = 0;   // tokens taken so far
    int64_t rows_ = 0;       // stored rows, without the current chunk
    int64_t key_start_ = 0;  // position of the first row after the sinks
    DeviceBuffer buffer_, store_buffer_, rotated_buffer_, sink_query_buffer_, span_buffer_;
    model::Activations a_;
    Store store_;
    Tensor rotated_keys_;
    std::vector<Tensor> spans_;  // i32 [H] per layer; absent where no head has a limit
    int64_t row_capacity_ = 0;
};

}  // namespace ballast::infer

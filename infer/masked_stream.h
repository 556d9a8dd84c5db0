// Streaming evaluation as one masked pass: what the literal cache computes token by token, computed for whole chunks of
// tokens at once.
//
// For sinks s and span r (C = s + r), query i sees keys j <= i with j < s or i - j <= r. Recent keys stand at their
// true relative distance; for keys j < s the query stands at min(i, C), the place it has in the cache. This equals the
// literal cache for every layer, because a key or value of layer l at position j depends only on what position j saw.
// Heads may have spans of their own (CachePlan). Under the rule `absolute` the query stands at i for the keys j < s
// too.
//
// Memory does not grow with the text: between chunks each layer keeps the un-rotated keys and the values of the first s
// and the last r positions, r being the longest span of the plan. Angles stay small too: rows are rotated by their
// place in [sinks | carried | chunk].
#pragma once

#include <vector>

#include "infer/cache_plan.h"
#include "model/transformer.h"

namespace ballast::infer {

class MaskedStream {
  public:
    /// A plan that is not bounded carries everything, so its memory grows with the text.
    MaskedStream(Context& context, model::Transformer& model, CachePlan plan, int64_t chunk);
    /// The policy in every head.
    MaskedStream(Context& context, model::Transformer& model, const CachePolicy& policy, int64_t chunk);

    /// Takes the next tokens of the stream (any number) with their targets (-1: none) and appends -log p(target), 0
    /// where there is none, to `losses`.
    void feed(std::span<const int32_t> tokens, std::span<const int32_t> targets, std::vector<float>& losses);

    int64_t position() const { return position_; }
    size_t memory_bytes() const {
        return buffer_.bytes() + store_.bytes() + rotated_buffer_.bytes() + sink_query_buffer_.bytes();
    }

  private:
    struct Carried {
        Tensor keys, values;  // [1,rows,G,D]: sinks, then consecutive recent positions; keys not rotated
    };

    void feed_chunk(std::span<const int32_t> tokens, std::span<const int32_t> targets, std::vector<float>& losses);
    void attend(int64_t layer, const Tensor& qkv, const model::LayerActivations& a);
    int64_t length_at(int64_t position) const;
    int64_t next_chunk(int64_t count) const;
    void reserve_rows(int64_t rows);
    void drop_old_rows();
    int64_t stored_sinks() const;
    void upload_spans();
    /// Where the query stands at most for the keys at the start.
    int64_t sink_query_position() const;

    Context& context_;
    model::Transformer& model_;
    CachePlan plan_;
    int64_t chunk_;
    int64_t position_ = 0;   // tokens taken so far
    int64_t rows_ = 0;       // stored rows, without the chunk under way
    int64_t key_start_ = 0;  // position of the first row after the sinks
    DeviceBuffer buffer_, store_, rotated_buffer_, sink_query_buffer_, span_buffer_;
    model::Activations a_;
    std::vector<Carried> layers_;
    Tensor rotated_keys_, moving_;
    std::vector<Tensor> spans_;  // i32 [H] a layer; absent where no head has a limit
    int64_t row_capacity_ = 0;
};

}  // namespace ballast::infer

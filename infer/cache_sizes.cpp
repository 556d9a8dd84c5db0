#include "infer/cache_sizes.h"

#include <algorithm>
#include <cstdint>
#include <fmt/format.h>
#include <limits>

#include "base/error.h"
#include "kernels/ops.h"

namespace ballast::infer {
namespace {

/// Of a block's keys, values and positions.
size_t rows_bytes(int64_t head_dim, Dtype dtype) {
    return static_cast<size_t>(ops::kCacheBlockRows) *
           (2 * static_cast<size_t>(head_dim) * size_of(dtype) + sizeof(int32_t));
}

int64_t whole_blocks(int64_t positions) { return (positions + ops::kCacheBlockRows - 1) / ops::kCacheBlockRows; }

bool is_endless(const CachePlan& plan) { return plan.bounded() && plan.rule() == PositionRule::in_cache; }

/// What the heads of a plan remember, all alike.
std::optional<ops::BlockMemory> block_memory_sizes(const CachePlan& plan) {
    const HeadCache& head = plan.cache(0, 0);
    if (!head.chosen_blocks) return {};
    return block_memory_of(head);
}

/// Positions that a query may be away from its key.
int64_t farthest(const CachePlan& plan) {
    const HeadCache& head = plan.cache(0, 0);
    return head.chosen_blocks ? head.span + 1 : plan.capacity();
}

CacheOptions completed(CacheOptions options, const model::ModelConfig& config, const CachePlan& plan,
                       const BlockShape& shape) {
    const int64_t trained = config.max_position_embeddings;
    require(options.max_batch > 0 && options.prefill_chunk > 0, "a batch or a chunk of nothing");
    if (options.max_positions == 0) options.max_positions = is_endless(plan) ? CacheSizes::kEndless : trained;
    options.prefill_chunk = std::min(options.prefill_chunk, options.max_positions);  // no chunk of a text is longer
    const bool remembers = block_memory_sizes(plan).has_value();
    if (!is_endless(plan) && !remembers && options.max_positions > trained)
        throw UserError(
            fmt::format("texts of {} positions are longer than the {} the model was trained on, and this cache "
                        "keeps positions as they are in the text; choose at most {}, or the policy sink",
                        options.max_positions, trained, trained));
    if ((is_endless(plan) || plan.by_score()) && farthest(plan) > trained)
        throw UserError(
            fmt::format("a cache of {} positions is larger than the {} the model was trained on; choose at "
                        "most {}",
                        farthest(plan), trained, trained));
    if (is_endless(plan) && plan.capacity() + 1 > trained && model::rope_depends_on_length(config))
        throw UserError(
            fmt::format("a cache of {} positions and the token under way are more than the {} the model was "
                        "trained on, and its rope_scaling dynamic would then turn keys that are cached "
                        "anew; choose at most {}",
                        plan.capacity(), trained, trained - 1));
    options.max_prompt =
        options.max_prompt == 0 ? options.max_positions : std::min(options.max_prompt, options.max_positions);
    if (options.blocks == 0) options.blocks = options.max_batch * shape.blocks(options.max_positions);
    if (constexpr int64_t kMost = INT32_MAX / ops::kCacheBlockRows - 1; options.blocks > kMost)
        throw UserError(fmt::format(
            "a cache of {} blocks has more rows than can be numbered; choose fewer or shorter texts at once, or at "
            "most {} blocks",
            options.blocks, kMost));
    return options;
}

}  // namespace

size_t total_bytes(const MemoryList& memory) {
    size_t total = 0;
    for (const auto& [name, bytes] : memory) total += bytes;
    return total;
}

CacheSizes::CacheSizes(const model::ModelConfig& config, Dtype compute_dtype, const CachePlan& plan,
                       const CacheOptions& wanted)
    : dtype(wanted.dtype.value_or(compute_dtype)),
      score_dtype(accumulation_dtype(compute_dtype)),
      endless(is_endless(plan)),
      whole_prompt(plan.cache(0, 0).heavy.has_value()),
      memory(block_memory_sizes(plan)),
      layers(kept_rows(plan, config)),
      shape(layers, ops::kCacheBlockRows),
      sink_query_position(memory    ? memory->local - 1
                          : endless ? plan.capacity()
                                    : std::numeric_limits<int64_t>::max()),
      head_dim(config.head_dim()) {
    if (dtype != compute_dtype && !(compute_dtype == Dtype::f32 && is_narrow(dtype)))
        throw UserError(fmt::format(
            "a model in {} cannot read a cache in {}; choose the model's own type, or f32 for the model and a narrow "
            "one for the cache",
            ballast::name_of(compute_dtype), ballast::name_of(dtype)));
    options = completed(wanted, config, plan, shape);
    if (memory) memory->chosen = std::min(memory->chosen, whole_blocks(options.max_positions));  // no text has more
}

int64_t CacheSizes::read_slots() const {
    return (memory ? memory->read_blocks() : table_width()) * ops::kCacheBlockRows;
}

int64_t CacheSizes::key_rows() const {
    if (memory) return 1;  // its chunks read the cache in place
    if (whole_prompt) return options.max_prompt;
    int64_t most = 0;
    for (const LayerRows& layer : layers) {
        const int64_t span = layer.longest_span();
        if (span == HeadCache::kAll) return options.max_positions;
        most = std::max(most, layer.sinks + span + 1 + options.prefill_chunk);
    }
    return std::min(most, options.max_positions);
}

size_t CacheSizes::block_bytes() const {
    const int64_t scores = (has_scores() ? ops::kCacheBlockRows : 0) + (memory ? head_dim : 0);
    return rows_bytes(head_dim, dtype) + static_cast<size_t>(scores) * size_of(score_dtype);
}

size_t CacheSizes::cache_bytes(int64_t positions) const {
    return static_cast<size_t>(shape.blocks(positions)) * block_bytes();
}

size_t CacheSizes::dense_bytes(int64_t positions) const {
    return static_cast<size_t>(shape.layers() * shape.heads() * whole_blocks(positions)) * rows_bytes(head_dim, dtype);
}

}  // namespace ballast::infer

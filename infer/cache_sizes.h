// The size of a paged cache, and whether it is possible. Known before anything is allocated.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "infer/block_list.h"
#include "infer/cache_plan.h"
#include "kernels/ops.h"
#include "model/config.h"

namespace ballast::infer {

struct CacheOptions {
    int64_t max_batch = 1;        // texts whose next tokens are computed together
    int64_t prefill_chunk = 256;  // positions of a prompt that are computed at once; chunks end at multiples of it
    int64_t max_positions = 0;    // of the longest text; 0: the length the model was trained on
    int64_t max_prompt = 0;       // of the longest prompt, where prompts are kept whole while read; 0: max_positions
    int64_t blocks = 0;           // of the cache; 0: enough for max_batch texts of max_positions
    std::optional<Dtype> dtype = {};  // of the cache: the model's (absent), or a narrow one where that is f32
};

/// Memory sizes with a label each.
using MemoryList = std::vector<std::pair<std::string, size_t>>;
size_t total_bytes(const MemoryList& memory);

/// The sizes that follow from a model, a plan and options.
struct CacheSizes {
    /// More positions than any text of an endless plan reaches. Kernels count positions in 32 bits.
    static constexpr int64_t kEndless = int64_t{1} << 30;

    /// UserError for impossible settings: a type that the model cannot read, a plan for another model, a cache or texts
    /// longer than the model was trained on, rotary angles that change with the text's length (`dynamic`).
    CacheSizes(const model::ModelConfig& config, Dtype compute_dtype, const CachePlan& plan,
               const CacheOptions& options);

    CacheOptions options;                    // with all defaults filled in, and no more than the longest text can use
    Dtype dtype;                             // of the cache
    Dtype score_dtype;                       // of a row's score
    bool endless;                            // bounded, with positions in the cache: a text may go on for ever
    bool whole_prompt;                       // rows are dropped by their scores only after the whole prompt was read
    std::optional<ops::BlockMemory> memory;  // the block memory besides the spans, within the longest text
    std::vector<LayerRows> layers;
    BlockShape shape;
    int64_t sink_query_position;  // the largest position of the query for the first keys
    int64_t head_dim;

    /// Blocks in one head's table.
    int64_t table_width() const { return shape.width(options.max_positions); }
    /// True when rows have scores.
    bool has_scores() const { return whole_prompt || memory; }
    /// The largest number of slots of one head that a query reads.
    int64_t read_slots() const;
    /// The rows that a chunk's attention reads, its own rows included. Where prompts are kept whole, every layer has as
    /// many rows.
    int64_t key_rows() const;
    int64_t key_layers() const { return whole_prompt ? shape.layers() : 1; }
    /// The rows of the largest chunk. Under a block memory a chunk's queries read the cache in place, each its own
    /// blocks; positions become far a block at a time, so a chunk ends where a block does.
    int64_t chunk_rows() const {
        return memory ? std::min(options.prefill_chunk, ops::kCacheBlockRows) : options.prefill_chunk;
    }
    /// The rows of the largest step: a chunk or a batch.
    int64_t step_rows() const { return std::max(chunk_rows(), options.max_batch); }
    /// The rows of the largest step whose queries read the cache in place.
    int64_t cached_rows() const { return memory ? step_rows() : options.max_batch; }
    /// The bytes of one block: keys, values, positions, and scores where they exist.
    size_t block_bytes() const;
    /// The bytes of the blocks for one text of `positions` positions; and the same for a cache that keeps everything,
    /// without scores.
    size_t cache_bytes(int64_t positions) const;
    size_t dense_bytes(int64_t positions) const;
};

}  // namespace ballast::infer

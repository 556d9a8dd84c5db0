// How large a paged cache is, and whether it can be at all: known before anything is allocated.
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
    int64_t max_positions = 0;    // of the longest text; 0: as many as the model was trained on
    int64_t max_prompt = 0;       // of the longest prompt, where it is kept whole while it is read; 0: max_positions
    int64_t blocks = 0;           // of the cache; 0: enough for max_batch texts of max_positions
    std::optional<Dtype> dtype = {};  // of the cache; absent: the model's
};

/// Memory by what it is for.
using MemoryList = std::vector<std::pair<std::string, size_t>>;
size_t total_bytes(const MemoryList& memory);

/// What follows from a model, a plan and options.
struct CacheSizes {
    /// More positions than any text of an endless plan reaches; kernels count positions in 32 bits.
    static constexpr int64_t kEndless = int64_t{1} << 30;

    /// UserError for what cannot be: a plan for another model, a cache or texts longer than the model was trained on,
    /// rotary angles that would change with the text's length (`dynamic`).
    CacheSizes(const model::ModelConfig& config, Dtype compute_dtype, const CachePlan& plan,
               const CacheOptions& options);

    CacheOptions options;                    // with what was left open
    Dtype dtype;                             // of the cache
    Dtype score_dtype;                       // of a row's score
    bool endless;                            // bounded, and positions count in the cache: a text may go on for ever
    bool whole_prompt;                       // a prompt is read before anything is dropped, by the attention it has had
    std::optional<ops::BlockMemory> memory;  // what the heads keep beside their spans; then texts go token by token
    std::vector<LayerRows> layers;
    BlockShape shape;
    int64_t sink_query_position;  // where the query for the keys at the start stands at most
    int64_t head_dim;

    /// Blocks of one head's table.
    int64_t table_width() const { return shape.width(options.max_positions); }
    /// Whether rows have scores.
    bool has_scores() const { return whole_prompt || memory; }
    /// Slots of one head that a query reads at most.
    int64_t read_slots() const;
    /// Rows that a chunk's attention reads, its own among them. Where prompts are kept whole, every layer has so many.
    int64_t key_rows() const;
    int64_t key_layers() const { return whole_prompt ? shape.layers() : 1; }
    /// Rows of the largest step: a chunk or a batch.
    int64_t step_rows() const { return std::max(options.prefill_chunk, options.max_batch); }
    /// Of one block: its keys, its values, where they stand, and what scores there are.
    size_t block_bytes() const;
    /// Of the blocks of one text of so many positions; and of a cache that keeps everything, without scores.
    size_t cache_bytes(int64_t positions) const;
    size_t dense_bytes(int64_t positions) const;
};

}  // namespace ballast::infer

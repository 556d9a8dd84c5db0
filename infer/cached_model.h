// A model over a paged cache: it reads chunks of prompts, and computes the next token of many texts at once. The caller
// decides which texts are in a chunk or a batch (infer/engine.h); this class reads and writes the cache in each layer.
//
// Keys are stored rotated at their position in the text, and no row is ever moved. The angles are computed only for the
// rows of a step (model/rope_rows.h), so a text may have any length. Where the plan counts positions in the cache
// (StreamingLLM), the first keys are read with a second query, at position min(i, C).
//
// Heads that choose by score (H2O): a prompt's rows stay together, outside of the blocks, until the prompt ends. Every
// query sees all earlier rows, and adds its attention weight for each row to that row's score. Then each head copies
// the rows it keeps into its blocks, with their scores. From then on the text is read token by token, whether its
// tokens are generated or given: each new row takes the slot of the row with the lowest score. So only one prompt is
// read at a time.
//
// Heads with a block memory (InfLLM): a row is written twice, into a ring for its head's span and, with an unrotated
// key, into the block of its position. The device chooses the blocks that a query reads. Far rows stand at 0 in the
// cache, so that attention reads them with the second query, at the edge of the span; rows of the ring stand at their
// position + 1. A chunk of a prompt is a step like a batch's, whose rows are of one text: all of them are in the ring
// before any is read, and each has its own list of blocks. No chunk goes past a multiple of 64, where the next block of
// the ring is emptied; so a query finds the ring, the masses and the representatives that it would find alone.
//
// A batch's step is recorded once for each padded number of rows; on a GPU it is then one launch. All values that
// change from step to step are in device memory. Padding rows have position -1, and read and write nothing.
//
// Bits: a chunk is computed alone, and the texts of a batch do not see each other. Attention over the cache splits each
// row's slots in the same way whatever else is in the call, and products by row of the weight (ops::Products) have the
// same bits for any number of rows.
#pragma once

#include <map>
#include <vector>

#include "infer/cache_sizes.h"
#include "kernels/recording.h"
#include "model/transformer.h"

namespace ballast::infer {

/// One text: its blocks in the cache, and the number of tokens that the model has read.
struct CachedText {
    BlockList blocks;
    int64_t position = 0;  // of its next token
    uint64_t serial = 0;   // unique among all texts that were opened
};

/// A row of a step that reads the cache in place.
struct CachedRow {
    const CachedText* text;
    int64_t position;
};

class CachedModel {
  public:
    /// UserErrors as for CacheSizes.
    CachedModel(Context& context, model::Transformer& model, const CachePlan& plan, const CacheOptions& options);
    CachedModel(const CachedModel&) = delete;  // recordings refer to it
    CachedModel& operator=(const CachedModel&) = delete;

    /// The device memory of a CachedModel and of its ops' scratch, for a model whose matrices are stored as `weights`.
    /// Known before it is made.
    static MemoryList memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                             const CacheSizes& sizes);
    /// The scratch alone, which other work of the context may use, too.
    static size_t scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                const CacheSizes& sizes);

    const CacheSizes& sizes() const { return sizes_; }
    int64_t free_blocks() const { return free_.free(); }
    /// Takes the blocks for a text of at most `positions` positions (under a bounded plan, those for the plan's
    /// capacity serve any number).
    CachedText open(int64_t positions);
    /// The number of tokens in the next chunk when `count` are still to be read. By score, it is one after the prompt
    /// has ended.
    int64_t next_chunk(const CachedText& text, int64_t count) const;
    /// Reads the next chunk of a text.
    void prefill(CachedText& text, std::span<const int32_t> tokens);
    /// Marks the end of a text's prompt, or of the part of it that will be read. With heads that choose by score,
    /// neither may another prompt begin nor this text be decoded before this call.
    void end_prompt(const CachedText& text);
    /// Reads one more token of each text.
    void decode(std::span<CachedText* const> texts, std::span<const int32_t> tokens);

    /// The final hidden states of the tokens read last, [N,C].
    Tensor final_out() const { return a_.final_out.slice(0, 0, rows_); }
    /// Logits acc [n,V] of the last n of these tokens, n <= max_batch.
    Tensor logits(int64_t n);

  private:
    /// All its memory except the cache and the step's activations.
    struct Layout {
        Tensor keys, values;        // x [key_layers,key_rows,G,D] that a chunk's attention reads
        Tensor scores;              // acc [L,G,key_rows] of a prompt's rows; absent unless chosen by score
        Tensor sink_query;          // x [step_rows,H,D]; absent unless the plan needs one
        Tensor rope, sink_rope;     // acc [step_rows,R]; absent without rotation, or without sink_query
        Tensor logits;              // acc [max_batch,V]
        Tensor spans;               // i32 [L,H]
        Tensor positions;           // i32 [written_rows]
        Tensor slots;               // i32 [L,written_rows,G]
        Tensor table, chunk_table;  // i32 [L,max_batch,G,W], [L,1,G,W]
        Tensor lengths;             // i32 [L,cached_rows,G]
        Tensor items, firsts;       // i32 [L,most_items,3], [L,max_batch G + 1]: work items of attention
        // Only with a block memory.
        Tensor chunk_items, chunk_firsts;  // the same for a chunk of chunk_rows rows
        Tensor stands, origin;             // i32 [cached_rows]: where rows stand in the cache; zeros
        Tensor far_slots;                  // i32 [L,cached_rows,G]
        Tensor read, relevance;            // i32 [cached_rows,G,read_blocks], acc [cached_rows,N] of one layer

        Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, const CacheSizes& sizes);
    };
    /// The tensors of the current step, as views of its size.
    struct Step {
        Tensor positions, stands, slots, far_slots, table, lengths, items, firsts, rope, sink_rope;
    };

    static int64_t most_items(const CacheSizes& sizes, int64_t rows);
    /// The largest number of rows that are written into the cache at once.
    static int64_t written_rows(const CacheSizes& sizes);
    static size_t pool_bytes(const CacheSizes& sizes);
    static size_t layout_bytes(const model::ModelConfig& config, Dtype dtype, const CacheSizes& sizes);

    void upload_spans();
    void begin_step(std::span<const int32_t> tokens, const std::vector<int32_t>& positions);
    void upload_chunk(const CachedText& text, int64_t count);
    void upload_chunk_in_place(const CachedText& text, int64_t count);
    void upload_batch(std::span<CachedText* const> texts, int64_t rows);
    std::vector<int32_t> upload_rows(std::span<const CachedRow> texts, int64_t rows);
    void upload_table(std::span<CachedText* const> texts, int64_t rows);
    void upload_batch_work(std::span<const int32_t> lengths_LBG, int64_t rows);
    void upload_work(const Tensor& items, const Tensor& firsts, std::span<const int32_t> lengths_LBG, int64_t rows,
                     int64_t items_of_layer);
    void make_room(int64_t items);
    /// The padded number of rows for a batch of `texts`: where steps are replayed, one of a few sizes.
    int64_t filled_up(int64_t texts) const;
    void read_batch();
    void upload(Tensor& to, const Tensor& memory, std::initializer_list<int64_t> shape,
                const std::vector<int32_t>& values) const;

    ops::AttentionParams attention(int64_t layer) const;
    void split(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv) const;
    void turn(const Tensor& q, const Tensor& k) const;
    void attend_chunk(int64_t layer, int64_t start, const Tensor& qkv, const model::LayerActivations& a) const;
    void attend_in_place(int64_t layer, const Tensor& qkv, const model::LayerActivations& a) const;
    Tensor table_of_layer(int64_t layer) const;
    /// The first `rows` rows that a chunk reads in a layer, from layout_.keys or values.
    Tensor key_rows(const Tensor& all, int64_t layer, int64_t rows) const;
    void begin_prompt(const CachedText& text);
    void add_scores(int64_t layer, const ops::AttentionInputs& in, const Tensor& lse,
                    const ops::AttentionParams& params) const;
    void replace_lightest(int64_t layer, int64_t batch) const;
    std::vector<int32_t> slots_of_prompt(const CachedText& text) const;
    void remember(int64_t layer, const Tensor& k, const Tensor& v) const;
    Tensor blocks_read(int64_t layer, const Tensor& q) const;
    /// True when a text's next tokens are read one at a time, although they are given.
    bool goes_by_token(const CachedText& text) const;

    Context& context_;
    model::Transformer& model_;
    CacheSizes sizes_;
    model::RopeFrequencies frequencies_;
    FreeBlocks free_;
    DeviceBuffer pool_buffer_, layout_buffer_, step_buffer_;
    ops::PagedCache pool_;
    Tensor scores_;           // acc [P,64] of the pool's rows; absent unless heads choose by score
    Tensor representatives_;  // acc [P,D]; absent without a block memory
    Layout layout_;
    model::Activations a_;  // of the current step, in step_buffer_
    Step step_;
    std::vector<uint64_t> batch_;              // serials of the texts whose table is on the device
    std::vector<int64_t> splits_;              // the splits that the work items on the device cover
    int64_t items_ = 0;                        // room for one layer's work items: the largest number of any step
    int64_t rows_ = 0;                         // of the current step, without padding
    std::map<int64_t, Recording> recordings_;  // by rows, for the current items_
    uint64_t opened_ = 0;
    uint64_t reading_ = 0;  // serial of the text whose prompt is being read; by score only
};

}  // namespace ballast::infer

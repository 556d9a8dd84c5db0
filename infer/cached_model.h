// A model over a paged cache: chunks of prompts, and the next token of many texts at once. Which text is in a chunk or
// a batch is the caller's business (infer/engine.h); this is how the layers read and write the cache.
//
// Keys are stored rotated at their place in the text, and no row is ever moved. The angles of a step's rows are
// computed for just those rows (model/rope_rows.h), so a text may be of any length. Where the plan counts positions in
// the cache (StreamingLLM), the keys at the start are read with a second query, which stands at min(i, C).
//
// Where heads choose by score (H2O), a prompt's rows stay together, outside of the blocks, until it has ended: every
// query sees all before it, and adds what it gives each row to that row's score. Then each head takes what it keeps
// into its blocks, scores beside the rows. From there on the text goes token by token, whoever wrote them: each takes
// the slot of the lightest row. So one prompt is read at a time.
//
// Where heads have a memory of blocks (InfLLM), texts go token by token from the beginning. A row is written twice,
// into the ring of its head's span and, with a key that is not rotated, into the block of its position; blocks that are
// read are chosen on the device. What is remembered says it stands at position 0, so attention reads it with the second
// query, which stands at the edge of the span.
//
// A batch's step is one recording for each number of rows that it is filled up to, on a GPU one launch: all that
// differs from step to step lies in device memory. Rows that are filled in stand at position -1 and read and write
// nothing.
//
// Bits: a chunk is computed by itself, and the rows of a batch do not see each other; attention over the cache cuts
// each row's slots in the same way whatever else is in the call, and products by row of the weight (ops::Products)
// have the same bits for any number of rows.
#pragma once

#include <map>
#include <vector>

#include "infer/cache_sizes.h"
#include "kernels/recording.h"
#include "model/transformer.h"

namespace ballast::infer {

/// One text: its place in the cache, and how much of it the model has read.
struct CachedText {
    BlockList blocks;
    int64_t position = 0;  // of its next token
    uint64_t serial = 0;   // its own among all that were opened
};

class CachedModel {
  public:
    /// UserErrors as CacheSizes.
    CachedModel(Context& context, model::Transformer& model, const CachePlan& plan, const CacheOptions& options);
    CachedModel(const CachedModel&) = delete;  // recordings refer to it
    CachedModel& operator=(const CachedModel&) = delete;

    /// Device memory of one and of its ops' scratch, for a model whose matrices are kept as `weights`; known before it
    /// is made.
    static MemoryList memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                             const CacheSizes& sizes);

    const CacheSizes& sizes() const { return sizes_; }
    int64_t free_blocks() const { return free_.free(); }
    /// Takes the blocks of a text of at most so many positions (at least the most the plan keeps: of any number).
    CachedText open(int64_t positions);
    /// Tokens of the next chunk, of `count` that are to be read: by score, one where a prompt has ended.
    int64_t next_chunk(const CachedText& text, int64_t count) const;
    /// Reads the next chunk of a text.
    void prefill(CachedText& text, std::span<const int32_t> tokens);
    /// Says that a text's prompt has been read, or as much of it as will be. By score, another prompt may not begin
    /// before, nor this text be decoded.
    void end_prompt(const CachedText& text);
    /// Reads one more token of each text.
    void decode(std::span<CachedText* const> texts, std::span<const int32_t> tokens);

    /// What the model made of the tokens read last, [N,C].
    Tensor final_out() const { return a_.final_out.slice(0, 0, rows_); }
    /// Logits acc [n,V] of the last n of them, n <= max_batch.
    Tensor logits(int64_t n);

  private:
    /// All of its memory beside the cache and the step's activations.
    struct Layout {
        Tensor keys, values;                // x [key_layers,key_rows,G,D] that a chunk's attention reads
        Tensor scores;                      // acc [L,G,key_rows] of a prompt's rows; absent unless they choose
        Tensor sink_query;                  // x [step_rows,H,D]; absent unless the plan needs one
        Tensor rope, sink_rope;             // acc [step_rows,R]; absent without rotation, or without sink_query
        Tensor logits;                      // acc [max_batch,V]
        Tensor spans;                       // i32 [L,H]
        Tensor positions;                   // i32 [written_rows]
        Tensor slots;                       // i32 [L,written_rows,G]
        Tensor chunk_table, chunk_lengths;  // i32 [L,1,G,W], [L,1,G]
        Tensor table, lengths;              // i32 [L,max_batch,G,W], [L,max_batch,G]
        Tensor items, firsts;               // i32 [L,most_items,3], [L,max_batch G + 1]: pieces of attention's work
        Tensor far_slots, origin;  // i32 [L,max_batch,G], [max_batch] zeros; these only with a memory of blocks
        Tensor read, relevance;    // i32 [max_batch,G,read_blocks], acc [max_batch,N] of one layer

        Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, const CacheSizes& sizes);
    };
    /// Tensors of the step under way, as small as it is.
    struct Step {
        Tensor positions, slots, far_slots, table, lengths, items, firsts, rope, sink_rope;
    };

    static size_t scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                const CacheSizes& sizes);
    static int64_t most_items(const CacheSizes& sizes);
    /// The most rows that are written into the cache at once.
    static int64_t written_rows(const CacheSizes& sizes);
    static size_t pool_bytes(const CacheSizes& sizes);
    static size_t layout_bytes(const model::ModelConfig& config, Dtype dtype, const CacheSizes& sizes);

    void upload_spans();
    void begin_step(std::span<const int32_t> tokens, const std::vector<int32_t>& positions);
    void upload_chunk(const CachedText& text, int64_t count);
    void upload_batch(std::span<CachedText* const> texts, int64_t rows);
    void upload_table(std::span<CachedText* const> texts, int64_t rows);
    void upload_work(std::span<const int32_t> lengths_LBG, int64_t rows);
    void make_room(int64_t items);
    /// The rows of a batch of `texts`: where it is replayed, one of few numbers.
    int64_t filled_up(int64_t texts) const;
    void read_batch();
    void upload(Tensor& to, const Tensor& memory, std::initializer_list<int64_t> shape,
                const std::vector<int32_t>& values) const;

    ops::AttentionParams attention(int64_t layer) const;
    void split(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv) const;
    void turn(const Tensor& q, const Tensor& k) const;
    void attend_chunk(int64_t layer, int64_t start, const Tensor& qkv, const model::LayerActivations& a) const;
    void attend_batch(int64_t layer, const Tensor& qkv, const model::LayerActivations& a) const;
    /// The first `rows` rows that a chunk of a layer reads, of layout_.keys or values.
    Tensor key_rows(const Tensor& all, int64_t layer, int64_t rows) const;
    void begin_prompt(const CachedText& text);
    void add_scores(int64_t layer, const ops::AttentionInputs& in, const Tensor& lse,
                    const ops::AttentionParams& params) const;
    void replace_lightest(int64_t layer, int64_t batch) const;
    std::vector<int32_t> slots_of_prompt(const CachedText& text) const;
    void remember(int64_t layer, const Tensor& k, const Tensor& v) const;
    Tensor blocks_read(int64_t layer, const Tensor& q) const;
    /// Whether the next tokens of a text are read one at a time, whoever wrote them.
    bool goes_by_token(const CachedText& text) const;

    Context& context_;
    model::Transformer& model_;
    CacheSizes sizes_;
    model::RopeFrequencies frequencies_;
    FreeBlocks free_;
    DeviceBuffer pool_buffer_, layout_buffer_, step_buffer_;
    ops::PagedCache pool_;
    Tensor scores_;                         // acc [P,64] of the pool's rows; absent unless they choose
    Tensor kept_scores_, representatives_;  // acc [P,64], [P,D]; absent without a memory of blocks
    Layout layout_;
    model::Activations a_;  // of the step under way, in step_buffer_
    Step step_;
    std::vector<uint64_t> batch_;              // serials of the texts whose table is on the device
    std::vector<int64_t> splits_;              // that the work on the device covers
    int64_t items_ = 0;                        // room for pieces of that work in one layer: as many as a step ever had
    int64_t rows_ = 0;                         // of the step under way, without those filled in
    std::map<int64_t, Recording> recordings_;  // by rows, for the current items_
    uint64_t opened_ = 0;
    uint64_t reading_ = 0;  // serial of the text whose prompt is being read; by score only
};

}  // namespace ballast::infer

#include "infer/cached_model.h"

#include <algorithm>
#include <bit>

#include "model/rope_rows.h"

namespace ballast::infer {

using model::PassKind;

namespace {

/// Whether the keys at the start are read with a query of their own.
bool has_sink_query(const model::ModelConfig& config, const CacheSizes& sizes) {
    return (sizes.endless || sizes.memory) && config.rotary_dims() > 0 &&
           std::any_of(sizes.layers.begin(), sizes.layers.end(), [](const LayerRows& rows) { return rows.sinks > 0; });
}

struct Pool {
    ops::PagedCache rows;
    Tensor scores, representatives;
};

Pool pool_layout(Arena& arena, const CacheSizes& sizes) {
    const int64_t P = sizes.options.blocks, R = ops::kCacheBlockRows, D = sizes.head_dim;
    const Tensor keys = arena.tensor(sizes.dtype, {P, R, D}), values = arena.tensor(sizes.dtype, {P, R, D});
    const Tensor positions = arena.tensor(Dtype::i32, {P, R});
    Pool pool{{keys, values, positions}, {}, {}};
    if (sizes.has_scores()) pool.scores = arena.tensor(sizes.score_dtype, {P, R});
    if (sizes.memory) pool.representatives = arena.tensor(sizes.score_dtype, {P, D});
    return pool;
}

}  // namespace

CachedModel::Layout::Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, const CacheSizes& sizes) {
    const Dtype acc = accumulation_dtype(dtype);
    const int64_t L = config.num_layers, H = config.num_heads, G = config.key_value_heads(), D = config.head_dim();
    const int64_t B = sizes.options.max_batch, N = sizes.step_rows(), R = config.rotary_dims(), W = sizes.table_width();
    const int64_t in_place = sizes.cached_rows(), chunk = sizes.chunk_rows();
    const auto integers = [&](std::initializer_list<int64_t> shape) { return arena.tensor(Dtype::i32, shape); };
    keys = arena.tensor(dtype, {sizes.key_layers(), sizes.key_rows(), G, D});
    values = arena.tensor(dtype, {sizes.key_layers(), sizes.key_rows(), G, D});
    if (sizes.whole_prompt) scores = arena.tensor(acc, {L, G, sizes.key_rows()});
    if (R > 0) rope = arena.tensor(acc, {N, R});
    if (has_sink_query(config, sizes)) {
        sink_query = arena.tensor(dtype, {N, H, D});
        sink_rope = arena.tensor(acc, {N, R});
    }
    logits = arena.tensor(acc, {B, config.vocab_size});
    spans = integers({L, H});
    positions = integers({written_rows(sizes)});
    slots = integers({L, written_rows(sizes), G});
    table = integers({L, B, G, W});
    chunk_table = integers({L, 1, G, W});
    lengths = integers({L, in_place, G});
    items = integers({L, most_items(sizes, B), 3});
    firsts = integers({L, B * G + 1});
    if (!sizes.memory) return;
    chunk_items = integers({L, most_items(sizes, chunk), 3});
    chunk_firsts = integers({L, chunk * G + 1});
    stands = integers({in_place});
    origin = integers({in_place});
    far_slots = integers({L, in_place, G});
    read = integers({in_place, G, sizes.memory->read_blocks()});
    relevance = arena.tensor(acc, {in_place, W - sizes.memory->ring_blocks()});
}

/// The most pieces of attention's work in one layer of a step of `rows` rows.
int64_t CachedModel::most_items(const CacheSizes& sizes, int64_t rows) {
    return rows * sizes.shape.heads() * ops::cached_attention_splits(sizes.read_slots());
}

int64_t CachedModel::written_rows(const CacheSizes& sizes) {
    return sizes.whole_prompt ? std::max(sizes.step_rows(), sizes.key_rows()) : sizes.step_rows();
}

size_t CachedModel::pool_bytes(const CacheSizes& sizes) {
    Arena plan;
    pool_layout(plan, sizes);
    return plan.peak_bytes();
}

size_t CachedModel::layout_bytes(const model::ModelConfig& config, Dtype dtype, const CacheSizes& sizes) {
    Arena plan;
    Layout(plan, config, dtype, sizes);
    return plan.peak_bytes();
}

size_t CachedModel::scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                  const CacheSizes& sizes) {
    const int64_t B = sizes.options.max_batch;
    const ops::CachedAttentionShape attention{.sequences = sizes.cached_rows(),
                                              .heads = config.num_heads,
                                              .kv_heads = config.key_value_heads(),
                                              .head_dim = config.head_dim(),
                                              .items = most_items(sizes, sizes.cached_rows()),
                                              .with_mass = sizes.has_scores()};
    const auto pass = [&](int64_t rows, ops::Products products) {
        return model::Pass::scratch_bytes(context, config, dtype, PassKind::forward, 1, rows, weights, products);
    };
    return std::max({pass(sizes.step_rows(), ops::Products::gemm), pass(B, ops::Products::by_row),
                     ops::linear_scratch_bytes(context, dtype, weights, B, config.vocab_size, config.hidden_size,
                                               ops::Products::by_row),
                     ops::cached_attention_scratch_bytes(dtype, attention)});
}

MemoryList CachedModel::memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                               const CacheSizes& sizes) {
    return {{"cache blocks", pool_bytes(sizes)},
            {"activations of a step",
             model::Pass::activation_bytes(config, dtype, PassKind::forward, 1, sizes.step_rows())},
            {sizes.whole_prompt ? "a prompt's rows and scores, tables, logits" : "a chunk's keys, tables, logits",
             layout_bytes(config, dtype, sizes)},
            {"kernel scratch", scratch_bytes(context, config, dtype, weights, sizes)}};
}

CachedModel::CachedModel(Context& context, model::Transformer& model, const CachePlan& plan,
                         const CacheOptions& options)
    : context_(context),
      model_(model),
      sizes_(model.config(), model.dtype(), plan, options),
      frequencies_(model::rope_frequencies(model.config(), model.config().max_position_embeddings)),
      free_(sizes_.options.blocks),
      pool_buffer_(context.allocate(pool_bytes(sizes_))),
      layout_buffer_(context.allocate(layout_bytes(model.config(), model.dtype(), sizes_))),
      step_buffer_(context.allocate(
          model::Pass::activation_bytes(model.config(), model.dtype(), PassKind::forward, 1, sizes_.step_rows()))),
      layout_([&] {
          Arena arena(layout_buffer_.data(), layout_buffer_.bytes());
          return Layout(arena, model.config(), model.dtype(), sizes_);
      }()) {
    context.scratch().reserve(
        scratch_bytes(context, model.config(), model.dtype(), model.weights().matrix_dtype(), sizes_));
    Arena arena(pool_buffer_.data(), pool_buffer_.bytes());
    const Pool pool = pool_layout(arena, sizes_);
    pool_ = pool.rows;
    scores_ = pool.scores;
    representatives_ = pool.representatives;
    upload_spans();
}

void CachedModel::upload_spans() {
    std::vector<int32_t> spans;
    for (const LayerRows& layer : sizes_.layers) spans.insert(spans.end(), layer.spans.begin(), layer.spans.end());
    context_.copy_from_host(layout_.spans, spans.data());
}

CachedText CachedModel::open(int64_t positions) { return {BlockList(free_, sizes_.shape, positions), 0, ++opened_}; }

bool CachedModel::goes_by_token(const CachedText& text) const {
    return sizes_.whole_prompt && text.position > 0 && text.serial != reading_;
}

int64_t CachedModel::next_chunk(const CachedText& text, int64_t count) const {
    if (goes_by_token(text)) return 1;
    const auto up_to_multiple_of = [&](int64_t n) { return n - text.position % n; };
    const int64_t chunk = up_to_multiple_of(sizes_.options.prefill_chunk);
    return std::min({count, chunk, sizes_.memory ? up_to_multiple_of(ops::kCacheBlockRows) : chunk});
}

void CachedModel::prefill(CachedText& text, std::span<const int32_t> tokens) {
    const auto T = std::ssize(tokens);
    const int64_t start = text.position;
    require(T > 0 && next_chunk(text, T) == T, "a chunk ends where it may not");
    if (sizes_.whole_prompt && start == 0) begin_prompt(text);
    if (goes_by_token(text)) {
        CachedText* const one = &text;
        return decode({&one, 1}, tokens);
    }
    std::vector<int32_t> positions;
    for (int64_t t = 0; t < T; ++t) positions.push_back(static_cast<int32_t>(start + t));
    begin_step({tokens.begin(), tokens.end()}, positions);
    rows_ = T;
    sizes_.memory ? upload_chunk_in_place(text, T) : upload_chunk(text, T);
    model_.forward_layers(context_, a_, [&](int64_t l, const Tensor& qkv, const model::LayerActivations& a) {
        sizes_.memory ? attend_in_place(l, qkv, a) : attend_chunk(l, start, qkv, a);
    });
    text.position += T;
}

void CachedModel::decode(std::span<CachedText* const> texts, std::span<const int32_t> tokens) {
    require(!texts.empty() && texts.size() == tokens.size() && std::ssize(texts) <= sizes_.options.max_batch,
            "a batch of another size");
    std::vector<int32_t> positions, ids(tokens.begin(), tokens.end());
    for (const CachedText* text : texts) {
        require(!sizes_.whole_prompt || text->serial != reading_, "a text whose prompt has not ended");
        positions.push_back(static_cast<int32_t>(text->position));
    }
    rows_ = std::ssize(texts);
    const int64_t rows = filled_up(rows_);
    positions.resize(static_cast<size_t>(rows), -1);
    ids.resize(static_cast<size_t>(rows), 0);
    begin_step(ids, positions);
    a_.temporaries.products = ops::Products::by_row;  // a text's row is computed as if it were alone
    upload_batch(texts, rows);
    recordings_.try_emplace(rows, context_, [this] { read_batch(); }).first->second.run();
    for (CachedText* text : texts) ++text->position;
}

int64_t CachedModel::filled_up(int64_t texts) const {
    if (!Recording::replays(context_)) return texts;
    const auto power_of_two = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(texts)));
    return std::min(texts <= 8 ? power_of_two : (texts + 7) / 8 * 8, sizes_.options.max_batch);
}

void CachedModel::read_batch() {
    model_.forward_layers(context_, a_, [&](int64_t l, const Tensor& qkv, const model::LayerActivations& a) {
        attend_in_place(l, qkv, a);
    });
}

Tensor CachedModel::logits(int64_t n) {
    const Tensor out = layout_.logits.slice(0, 0, n);
    model_.head_logits(context_, out, a_.final_out.slice(0, rows_ - n, rows_), ops::Products::by_row);
    return out;
}

ops::AttentionParams CachedModel::attention(int64_t l) const {
    const LayerRows& rows = sizes_.layers[static_cast<size_t>(l)];
    ops::AttentionParams params = model_.attention(l);
    params.mask.num_sink_positions = params.mask.key_start = rows.sinks;
    params.mask.span_H = rows.limited() ? layout_.spans.slice(0, l, l + 1).view({model_.config().num_heads}) : Tensor{};
    params.sink_query_position = sizes_.sink_query_position;
    return params;
}

/// q, k and v, turned unless turn() is to do that.
void CachedModel::split(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv) const {
    ops::qkv_split_rope_forward(context_, q, k, v, qkv, layout_.sink_query.empty() ? step_.rope : Tensor{}, {},
                                model_.qkv_layout());
}

/// q and k as attention reads them, and the second query where there is one.
void CachedModel::turn(const Tensor& q, const Tensor& k) const {
    if (layout_.sink_query.empty()) return;
    const int64_t T = q.dim(1);
    ops::rope_forward(context_, layout_.sink_query.slice(0, 0, T).view({1, T, q.dim(2), q.dim(3)}), q, step_.sink_rope,
                      {});
    ops::rope_forward(context_, q, q, step_.rope, {});
    ops::rope_forward(context_, k, k, step_.rope, {});
}

Tensor CachedModel::key_rows(const Tensor& all, int64_t l, int64_t rows) const {
    const int64_t layer = sizes_.whole_prompt ? l : 0;
    return all.slice(0, layer, layer + 1).slice(1, 0, rows).view({rows, all.dim(2), all.dim(3)});
}

/// [B,G,W], or [1,G,W] for a chunk.
Tensor CachedModel::table_of_layer(int64_t l) const {
    const Tensor& all = step_.table;
    return all.slice(0, l, l + 1).view({all.dim(1), all.dim(2), all.dim(3)});
}

void CachedModel::attend_chunk(int64_t l, int64_t start, const Tensor& qkv, const model::LayerActivations& a) const {
    const LayerRows& rows = sizes_.layers[static_cast<size_t>(l)];
    const int64_t T = a.q.dim(1), G = a.k.dim(2), D = a.k.dim(3);
    const int64_t first = rows.first_kept(start);  // besides the sinks
    const int64_t before = std::min(start, rows.sinks) + std::max<int64_t>(0, start - first), S = before + T;
    const Tensor keys = key_rows(layout_.keys, l, S), values = key_rows(layout_.values, l, S);
    const Tensor k = keys.slice(0, before, S), v = values.slice(0, before, S);
    split(a.q, k.view({1, T, G, D}), v.view({1, T, G, D}), qkv);
    turn(a.q, k.view({1, T, G, D}));
    if (before > 0 && !sizes_.whole_prompt) {
        ops::cache_read(context_, keys.slice(0, 0, before), values.slice(0, 0, before), pool_,
                        {table_of_layer(l), step_.lengths.slice(0, l, l + 1).view({1, G})}, rows.sinks, first);
    }
    ops::AttentionParams params = attention(l);
    params.mask.query_start = start;
    params.mask.key_start = first;
    const Tensor sink_query =
        layout_.sink_query.empty() ? Tensor{} : layout_.sink_query.slice(0, 0, T).view({1, T, a.q.dim(2), D});
    const ops::AttentionInputs in{a.q, keys.view({1, S, G, D}), values.view({1, S, G, D}), sink_query};
    ops::attention_forward(context_, a.attention_out, a.lse, in, params);
    if (sizes_.whole_prompt) return add_scores(l, in, a.lse, params);
    ops::cache_write(context_, pool_, k, v, step_.slots.slice(0, l, l + 1).view({T, G}), step_.positions);
}

void CachedModel::attend_in_place(int64_t l, const Tensor& qkv, const model::LayerActivations& a) const {
    const int64_t B = a.q.dim(1), H = a.q.dim(2), G = a.k.dim(2), D = a.k.dim(3);
    const auto layer_slice = [l](const Tensor& all) { return all.slice(0, l, l + 1); };
    const Tensor k = a.k.view({B, G, D}), v = a.v.view({B, G, D});
    split(a.q, a.k, a.v, qkv);
    if (sizes_.memory) remember(l, k, v);
    turn(a.q, a.k);
    if (sizes_.whole_prompt) replace_lightest(l, B);
    ops::cache_write(context_, pool_, k, v, layer_slice(step_.slots).view({B, G}), step_.stands);
    const Tensor q = a.q.view({B, H, D});
    const Tensor sink_query = layout_.sink_query.empty() ? Tensor{} : layout_.sink_query.slice(0, 0, B);
    const Tensor table = sizes_.memory ? blocks_read(l, sink_query.empty() ? q : sink_query) : table_of_layer(l);
    ops::SlotMass mass{scores_};
    if (sizes_.memory) mass.blocks = sizes_.memory->ring_blocks();
    ops::cached_attention_forward(
        context_, a.attention_out.view({B, H, D}), q, sink_query, pool_,
        {table, layer_slice(step_.lengths).view({B, G})}, step_.stands,
        {layer_slice(step_.items).view({step_.items.dim(1), 3}), layer_slice(step_.firsts).view({B * G + 1})},
        attention(l), mass);
}

}  // namespace ballast::infer

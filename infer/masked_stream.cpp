#include "infer/masked_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace ballast::infer {

using model::Activations;
using model::PassKind;

MaskedStream::Store::Store(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t rows) {
    const auto block = [&] { return arena.tensor(dtype, {1, rows, config.key_value_heads(), config.head_dim()}); };
    for (int64_t l = 0; l < config.num_layers; ++l) layers.push_back({block(), block()});
    moving = block();
}

size_t MaskedStream::store_bytes(const model::ModelConfig& config, Dtype dtype, int64_t rows) {
    Arena plan;
    Store(plan, config, dtype, rows);
    return plan.peak_bytes();
}

size_t MaskedStream::rotated_bytes(const model::ModelConfig& config, Dtype dtype, int64_t rows) {
    return static_cast<size_t>(rows * config.key_value_heads() * config.head_dim()) * size_of(dtype);
}

size_t MaskedStream::sink_query_bytes(const model::ModelConfig& config, Dtype dtype, int64_t chunk) {
    return static_cast<size_t>(chunk * config.attention_dim()) * size_of(dtype);
}

int64_t MaskedStream::first_capacity(const CachePlan& plan, int64_t chunk) {
    return plan.bounded() ? plan.capacity() + chunk : 2 * chunk;
}

MemoryList MaskedStream::memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                const CachePlan& plan, int64_t chunk, int64_t positions) {
    int64_t rows = first_capacity(plan, chunk), rows_before = 0;
    while (!plan.bounded() && rows < positions) rows_before = std::exchange(rows, 2 * rows);  // as reserve_rows() grows
    return {
        {"activations", model::Pass::activation_bytes(config, dtype, PassKind::forward, 1, chunk) +
                            sink_query_bytes(config, dtype, chunk)},
        {"keys and values", store_bytes(config, dtype, rows) + store_bytes(config, dtype, rows_before) +
                                rotated_bytes(config, dtype, rows + rows_before)},
        {"kernel scratch", model::Pass::scratch_bytes(context, config, dtype, PassKind::forward, 1, chunk, weights)}};
}

MaskedStream::MaskedStream(Context& context, model::Transformer& model, const CachePolicy& policy, int64_t chunk)
    : MaskedStream(context, model, CachePlan::uniform(policy, model.config().num_layers, model.config().num_heads),
                   chunk) {}

MaskedStream::MaskedStream(Context& context, model::Transformer& model, CachePlan plan, int64_t chunk)
    : context_(context), model_(model), plan_(std::move(plan)), chunk_(chunk) {
    require(chunk > 0, "a masked pass of no tokens");
    require(!plan_.by_score(), "a mask that is not known in advance");
    require(plan_.layers() == model.config().num_layers && plan_.heads() == model.config().num_heads,
            "a plan for another model");
    const auto& config = model.config();
    buffer_ = context.allocate(model::Pass::activation_bytes(config, model.dtype(), PassKind::forward, 1, chunk));
    sink_query_buffer_ = context.allocate(sink_query_bytes(config, model.dtype(), chunk));
    context.scratch().reserve(model::Pass::scratch_bytes(context, config, model.dtype(), PassKind::forward, 1, chunk,
                                                         model.weights().matrix_dtype()));
    upload_spans();
    reserve_rows(first_capacity(plan_, chunk));
    if (plan_.bounded()) model.positions().ensure(context, plan_.capacity() + 1);
}

void MaskedStream::upload_spans() {
    const int64_t layers = plan_.layers(), heads = plan_.heads();
    const auto layout = [&](Arena& arena) {
        spans_.clear();
        for (int64_t l = 0; l < layers; ++l) spans_.push_back(arena.tensor(Dtype::i32, {heads}));
    };
    Arena sizes;
    layout(sizes);
    span_buffer_ = context_.allocate(sizes.peak_bytes());
    Arena arena(span_buffer_.data(), span_buffer_.bytes());
    layout(arena);
    for (int64_t l = 0; l < layers; ++l) {
        std::vector<int32_t> spans;
        const int64_t window = model_.config().span_of_layer(l);  // 0: none; the narrower of it and the plan's holds
        for (int64_t h = 0; h < heads; ++h) {
            const int64_t span = plan_.cache(l, h).span;
            spans.push_back(static_cast<int32_t>(window == 0 ? span : span < 0 ? window : std::min(span, window)));
        }
        Tensor& tensor = spans_[static_cast<size_t>(l)];
        context_.copy_from_host(tensor, spans.data());
        if (std::all_of(spans.begin(), spans.end(), [](int32_t span) { return span < 0; })) tensor = {};  // no limit
    }
}

int64_t MaskedStream::sink_query_position() const {
    return plan_.rule() == PositionRule::in_cache ? plan_.capacity() : std::numeric_limits<int64_t>::max();
}

int64_t MaskedStream::stored_sinks() const { return std::min(plan_.sinks(), position_); }

/// Makes the store hold `rows` rows a layer, keeping what is there. Only a dense stream ever grows.
void MaskedStream::reserve_rows(int64_t rows) {
    if (rows <= row_capacity_) return;
    const int64_t capacity = std::max(rows, 2 * row_capacity_);
    const auto& config = model_.config();
    const Dtype dtype = model_.dtype();
    DeviceBuffer buffer = context_.allocate(store_bytes(config, dtype, capacity));
    Arena arena(buffer.data(), buffer.bytes());
    Store larger(arena, config, dtype, capacity);
    for (size_t l = 0; l < larger.layers.size() && rows_ > 0; ++l) {
        ops::copy(context_, larger.layers[l].keys.slice(1, 0, rows_), store_.layers[l].keys.slice(1, 0, rows_));
        ops::copy(context_, larger.layers[l].values.slice(1, 0, rows_), store_.layers[l].values.slice(1, 0, rows_));
    }
    store_ = std::move(larger);
    store_buffer_ = std::move(buffer);
    rotated_buffer_ = context_.allocate(rotated_bytes(config, dtype, capacity));
    rotated_keys_ = Tensor(rotated_buffer_.data(), dtype, {1, capacity, config.key_value_heads(), config.head_dim()});
    model_.positions().ensure(context_, capacity);
    row_capacity_ = capacity;
}

void MaskedStream::attend(int64_t layer, const Tensor& qkv, const model::LayerActivations& a) {
    const int64_t T = a.q.dim(1), n = rows_ + T, s = plan_.sinks();
    const Tensor table = model_.positions().rope();
    const Carried& carried = store_.layers[static_cast<size_t>(layer)];
    ops::qkv_split_rope_forward(context_, a.q, carried.keys.slice(1, rows_, n), carried.values.slice(1, rows_, n), qkv,
                                Tensor{}, {}, model_.qkv_layout());

    const Tensor keys = rotated_keys_.slice(1, 0, n);
    ops::rope_forward(context_, keys, carried.keys.slice(1, 0, n), table, {.first = 0});
    Tensor sink_query;
    if (s > 0) {
        sink_query = Tensor(sink_query_buffer_.data(), model_.dtype(), {1, T, a.q.dim(2), a.q.dim(3)});
        ops::rope_forward(context_, sink_query, a.q, table, {.first = position_, .last = sink_query_position()});
    }
    ops::rope_forward(context_, a.q, a.q, table, {.first = rows_});

    auto params = model_.attention(layer);
    params.mask.query_start = position_;
    if (s > 0 || plan_.bounded()) {  // else every row is there, and only the model's own sink tokens escape its windows
        params.mask.num_sink_positions = s;
        params.mask.key_start = key_start_;
    }
    params.mask.span_H = spans_[static_cast<size_t>(layer)];
    if (s > 0) params.sink_query_position = sink_query_position();
    ops::attention_forward(context_, a.attention_out, a.lse, {a.q, keys, carried.values.slice(1, 0, n), sink_query},
                           params);
}

/// Keeps the sinks and the last positions that a head may still see.
void MaskedStream::drop_old_rows() {
    if (!plan_.bounded()) return;
    const int64_t s = stored_sinks(), recent = std::min(plan_.longest_span(), rows_ - s), first = rows_ - recent;
    if (first == s) return;
    for (const Carried& layer : store_.layers)
        for (const Tensor& rows : {layer.keys, layer.values}) {
            const Tensor moving = store_.moving.slice(1, 0, recent);
            ops::copy(context_, moving, rows.slice(1, first, rows_));
            ops::copy(context_, rows.slice(1, s, s + recent), moving);
        }
    rows_ = s + recent;
    key_start_ = position_ - recent;
}

/// Positions that the literal cache holds with its query when this one is fed.
int64_t MaskedStream::length_at(int64_t position) const {
    const int64_t seen = position + 1;
    return plan_.bounded() ? std::min(seen, plan_.capacity() + 1) : seen;
}

/// How many of `count` tokens go together: those whose angles are the same, where angles depend on the length.
int64_t MaskedStream::next_chunk(int64_t count) const {
    const int64_t trained = model_.config().max_position_embeddings;
    if (!model::rope_depends_on_length(model_.config()) || length_at(position_ + count - 1) <= trained) return count;
    if (length_at(position_) < trained) return trained - position_;
    return length_at(position_) == length_at(position_ + count - 1) ? count : 1;
}

void MaskedStream::feed(std::span<const int32_t> tokens, std::span<const int32_t> targets, std::vector<float>& losses) {
    require(tokens.size() == targets.size(), "as many targets as tokens");
    for (size_t at = 0, count; at < tokens.size(); at += count) {
        count = static_cast<size_t>(next_chunk(std::min(chunk_, static_cast<int64_t>(tokens.size() - at))));
        feed_chunk(tokens.subspan(at, count), targets.subspan(at, count), losses);
    }
}

void MaskedStream::feed_chunk(std::span<const int32_t> tokens, std::span<const int32_t> targets,
                              std::vector<float>& losses) {
    const auto T = static_cast<int64_t>(tokens.size());
    if (position_ == 0) key_start_ = plan_.sinks();
    reserve_rows(rows_ + T);
    if (plan_.sinks() > 0 && plan_.rule() == PositionRule::absolute)  // angles of the sinks' query
        model_.positions().ensure(context_, position_ + T);
    model_.positions().set_sequence_length(context_, length_at(position_ + T - 1));
    Arena arena(buffer_.data(), buffer_.bytes());
    a_ = Activations(arena, model_.config(), model_.dtype(), PassKind::forward, 1, T);
    context_.copy_from_host(a_.ids, tokens.data());
    context_.copy_from_host(a_.targets, targets.data());

    model_.forward_layers(context_, a_,
                          [&](int64_t l, const Tensor& qkv, const model::LayerActivations& a) { attend(l, qkv, a); });
    model_.head_losses(context_, a_.losses, a_.final_out, a_.targets);
    rows_ += T;
    position_ += T;
    drop_old_rows();

    const std::vector<float> chunk_losses = context_.read_floats(a_.losses);
    losses.insert(losses.end(), chunk_losses.begin(), chunk_losses.end());
}

}  // namespace ballast::infer

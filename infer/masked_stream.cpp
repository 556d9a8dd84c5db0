#include "infer/masked_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace ballast::infer {

using model::Activations;
using model::PassKind;

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
    sink_query_buffer_ = context.allocate(static_cast<size_t>(chunk * config.attention_dim()) * size_of(model.dtype()));
    context.scratch().reserve(model::Pass::scratch_bytes(context, config, model.dtype(), PassKind::forward, 1,
                                                             chunk, model.weights().matrix_dtype()));
    layers_.resize(static_cast<size_t>(config.num_layers));
    upload_spans();
    reserve_rows(plan_.bounded() ? plan_.capacity() + chunk : 2 * chunk);
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
    const int64_t G = model_.config().key_value_heads(), D = model_.config().head_dim();
    std::vector<Carried> larger(layers_.size());
    Tensor moving;
    const auto layout = [&](Arena& arena) {
        const auto block = [&] { return arena.tensor(model_.dtype(), {1, capacity, G, D}); };
        for (auto& layer : larger) layer = {block(), block()};
        moving = block();
    };
    Arena plan;
    layout(plan);
    DeviceBuffer store = context_.allocate(plan.peak_bytes());
    Arena arena(store.data(), store.bytes());
    layout(arena);
    for (size_t l = 0; l < larger.size() && rows_ > 0; ++l) {
        ops::copy(context_, larger[l].keys.slice(1, 0, rows_), layers_[l].keys.slice(1, 0, rows_));
        ops::copy(context_, larger[l].values.slice(1, 0, rows_), layers_[l].values.slice(1, 0, rows_));
    }
    layers_ = std::move(larger);
    store_ = std::move(store);
    moving_ = moving;
    rotated_buffer_ = context_.allocate(static_cast<size_t>(capacity * G * D) * size_of(model_.dtype()));
    rotated_keys_ = Tensor(rotated_buffer_.data(), model_.dtype(), {1, capacity, G, D});
    model_.positions().ensure(context_, capacity);
    row_capacity_ = capacity;
}

void MaskedStream::attend(int64_t layer, const Tensor& qkv, const model::LayerActivations& a) {
    const int64_t T = a.q.dim(1), n = rows_ + T, s = plan_.sinks();
    const Tensor table = model_.positions().rope();
    const Carried& carried = layers_[static_cast<size_t>(layer)];
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
    for (const Carried& layer : layers_)
        for (const Tensor& rows : {layer.keys, layer.values}) {
            const Tensor moving = moving_.slice(1, 0, recent);
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

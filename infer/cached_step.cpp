// The inputs of a CachedModel step, computed on the host and uploaded before the step's work is queued.
#include <algorithm>
#include <bit>
#include <numeric>

#include "infer/cached_model.h"
#include "model/rope_rows.h"

namespace ballast::infer {

/// Hands over integers of a shape that may be smaller than the memory planned for them.
void CachedModel::upload(Tensor& to, const Tensor& memory, std::initializer_list<int64_t> shape,
                         const std::vector<int32_t>& values) const {
    to = Tensor(memory.data, Dtype::i32, shape);
    require(to.numel() <= memory.numel() && to.numel() == std::ssize(values), "a step larger than its plan");
    context_.copy_from_host(to, values.data());
}

void CachedModel::begin_step(std::span<const int32_t> tokens, const std::vector<int32_t>& positions) {
    const auto N = std::ssize(tokens);
    require(N <= sizes_.step_rows(), "a step larger than its plan");
    Arena arena(step_buffer_.data(), step_buffer_.bytes());
    a_ = model::Activations(arena, model_.config(), model_.dtype(), model::PassKind::forward, 1, N);
    context_.copy_from_host(a_.ids, tokens.data());
    upload(step_.positions, layout_.positions, {N}, positions);
    step_.stands = step_.positions;
    if (sizes_.memory) {  // far rows stand at 0
        std::vector<int32_t> stands(positions);
        for (int32_t& at : stands) at += at < 0 ? 0 : 1;
        upload(step_.stands, layout_.stands, {N}, stands);
    }
    if (layout_.rope.empty()) return;
    step_.rope = layout_.rope.slice(0, 0, N);
    model::fill_rope_rows(context_, step_.rope, frequencies_, positions);
    if (layout_.sink_rope.empty()) return;
    std::vector<int32_t> at_most(positions);
    for (int32_t& position : at_most)
        position = static_cast<int32_t>(std::min<int64_t>(position, sizes_.sink_query_position));
    step_.sink_rope = layout_.sink_rope.slice(0, 0, N);
    model::fill_rope_rows(context_, step_.sink_rope, frequencies_, at_most);
}

namespace {

/// [L,rows,G,W], padded with block 0, which no length reaches.
std::vector<int32_t> block_tables(const BlockShape& shape, std::span<const CachedText* const> texts, int64_t rows,
                                  int64_t width) {
    const auto text_entries = static_cast<size_t>(shape.heads() * width),
               layer_entries = text_entries * static_cast<size_t>(rows);
    std::vector<int32_t> out;
    out.reserve(static_cast<size_t>(shape.layers()) * layer_entries);
    for (int64_t l = 0; l < shape.layers(); ++l) {
        for (const CachedText* text : texts)
            for (int64_t g = 0; g < shape.heads(); ++g) {
                const auto blocks = text->blocks.of(l, g);
                out.insert(out.end(), blocks.begin(), blocks.end());
                out.insert(out.end(), static_cast<size_t>(width) - blocks.size(), 0);
            }
        out.resize(static_cast<size_t>(l + 1) * layer_entries, 0);
    }
    return out;
}

}  // namespace

void CachedModel::upload_chunk(const CachedText& text, int64_t count) {
    if (sizes_.whole_prompt) return;  // it touches no block
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads(), start = text.position, end = start + count;
    std::vector<int32_t> slots, lengths;
    for (int64_t l = 0; l < L; ++l) {
        const std::vector<HeadCache>& rings = sizes_.layers[static_cast<size_t>(l)].rings;
        for (int64_t position = start; position < end; ++position)
            for (int64_t g = 0; g < G; ++g) {
                const HeadCache& ring = rings[static_cast<size_t>(g)];
                slots.push_back(!keeps(ring, position, end)
                                    ? -1
                                    : text.blocks.row(l, g, slot_of(ring, position), ops::kCacheBlockRows));
            }
        for (const HeadCache& ring : rings) lengths.push_back(static_cast<int32_t>(slots_in_use(ring, start)));
    }
    const CachedText* const one = &text;
    const int64_t W = sizes_.table_width();
    upload(step_.slots, layout_.slots, {L, count, G}, slots);
    upload(step_.lengths, layout_.lengths, {L, 1, G}, lengths);
    upload(step_.table, layout_.chunk_table, {L, 1, G, W}, block_tables(sizes_.shape, {&one, 1}, 1, W));
}

/// A chunk whose queries read the cache in place, as so many rows of one text.
void CachedModel::upload_chunk_in_place(const CachedText& text, int64_t count) {
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads(), W = sizes_.table_width();
    std::vector<CachedRow> rows;
    for (int64_t t = 0; t < count; ++t) rows.push_back({&text, text.position + t});
    const std::vector<int32_t> lengths = upload_rows(rows, count);
    const CachedText* const one = &text;
    upload(step_.table, layout_.chunk_table, {L, 1, G, W}, block_tables(sizes_.shape, {&one, 1}, 1, W));
    int64_t items = 0;  // all layers are alike
    for (int64_t i = 0; i < count * G; ++i) items += ops::cached_attention_splits(lengths[static_cast<size_t>(i)]);
    upload_work(layout_.chunk_items, layout_.chunk_firsts, lengths, count, items);
}

void CachedModel::upload_batch(std::span<CachedText* const> texts, int64_t B) {
    std::vector<CachedRow> rows;
    for (const CachedText* text : texts) rows.push_back({text, text->position});
    const std::vector<int32_t> lengths = upload_rows(rows, B);
    upload_table(texts, B);
    upload_batch_work(lengths, B);
}

/// What the rows of a step in place write and read, padded to B rows. Returns the lengths, [L,B,G].
std::vector<int32_t> CachedModel::upload_rows(std::span<const CachedRow> rows, int64_t B) {
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads();
    const auto& memory = sizes_.memory;
    std::vector<int32_t> slots, far_slots, lengths;
    for (int64_t l = 0; l < L; ++l) {
        for (const auto& [text, p] : rows)
            for (int64_t g = 0; g < G; ++g) {
                const HeadCache& ring = sizes_.layers[static_cast<size_t>(l)].rings[static_cast<size_t>(g)];
                const auto row = [&](int64_t slot) { return text->blocks.row(l, g, slot, ops::kCacheBlockRows); };
                if (memory) far_slots.push_back(row(memory->ring_slots() + p));
                if (!sizes_.whole_prompt) slots.push_back(row(memory ? p % memory->ring_slots() : slot_of(ring, p)));
                lengths.push_back(static_cast<int32_t>(memory ? memory->slots(p) : slots_in_use(ring, p + 1)));
            }
        const auto filled = static_cast<size_t>((l + 1) * B * G);
        if (memory) far_slots.resize(filled, -1);
        if (!sizes_.whole_prompt) slots.resize(filled, -1);
        lengths.resize(filled, 0);
    }
    if (sizes_.whole_prompt)  // chosen on the device
        step_.slots = Tensor(layout_.slots.data, Dtype::i32, {L, B, G});
    else
        upload(step_.slots, layout_.slots, {L, B, G}, slots);
    if (memory) upload(step_.far_slots, layout_.far_slots, {L, B, G}, far_slots);
    upload(step_.lengths, layout_.lengths, {L, B, G}, lengths);
    return lengths;
}

/// Tables change only when texts join or leave: all blocks of a text are taken at its beginning.
void CachedModel::upload_table(std::span<CachedText* const> texts, int64_t B) {
    std::vector<uint64_t> serials;
    for (const CachedText* text : texts) serials.push_back(text->serial);
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads(), W = sizes_.table_width();
    if (serials == batch_) {
        step_.table = Tensor(layout_.table.data, Dtype::i32, {L, B, G, W});
        return;
    }
    const std::vector<const CachedText*> all(texts.begin(), texts.end());
    upload(step_.table, layout_.table, {L, B, G, W}, block_tables(sizes_.shape, all, B, W));
    batch_ = std::move(serials);
}

/// Room grows in powers of two and never shrinks, so that recordings, which end with it, are few.
void CachedModel::make_room(int64_t items) {
    if (items <= items_) return;
    const auto power_of_two = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(items)));
    items_ = std::min(power_of_two, most_items(sizes_, sizes_.options.max_batch));
    recordings_.clear();
}

/// A batch's pieces of attention's work change only when texts join or leave, or one has grown by a split.
void CachedModel::upload_batch_work(std::span<const int32_t> lengths, int64_t B) {
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads();
    std::vector<int64_t> splits;
    for (const int32_t length : lengths) splits.push_back(ops::cached_attention_splits(length));
    if (splits == splits_) {
        step_.items = Tensor(layout_.items.data, Dtype::i32, {L, items_, 3});
        step_.firsts = Tensor(layout_.firsts.data, Dtype::i32, {L, B * G + 1});
        return;
    }
    for (auto layer = splits.begin(); layer != splits.end(); layer += B * G)
        make_room(std::accumulate(layer, layer + B * G, int64_t{0}));
    upload_work(layout_.items, layout_.firsts, lengths, B, items_);
    splits_ = std::move(splits);
}

void CachedModel::upload_work(const Tensor& to_items, const Tensor& to_firsts, std::span<const int32_t> lengths,
                              int64_t B, int64_t items_of_layer) {
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads();
    std::vector<int32_t> items, firsts;
    for (int64_t l = 0; l < L; ++l) {
        const auto plan = ops::plan_cached_attention(
            lengths.subspan(static_cast<size_t>(l * B * G), static_cast<size_t>(B * G)), G, items_of_layer);
        items.insert(items.end(), plan.items_N3.begin(), plan.items_N3.end());
        firsts.insert(firsts.end(), plan.first_BG1.begin(), plan.first_BG1.end());
    }
    upload(step_.items, to_items, {L, items_of_layer, 3}, items);
    upload(step_.firsts, to_firsts, {L, B * G + 1}, firsts);
}

}  // namespace ballast::infer

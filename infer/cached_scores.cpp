// The part of CachedModel for policies that choose by score: a prompt is kept whole while it is read, its rows get
// scores, and the scores decide which rows stay.
#include <algorithm>

#include "infer/cached_model.h"
#include "infer/heavy_rows.h"

namespace ballast::infer {
namespace {

Tensor layer_slice(const Tensor& all, int64_t layer) { return all.slice(0, layer, layer + 1); }

/// A layer's scores [1,G,N] as rows of one dim, [rows,G,1], which are cached as keys are.
Tensor as_rows(const Tensor& scores_1GN, int64_t rows) {
    Tensor out(scores_1GN.data, scores_1GN.dtype, {rows, scores_1GN.dim(1), 1});
    out.stride = {1, scores_1GN.dim(2), 1};
    return out;
}

/// An operand of all heads, as head h alone has it.
Tensor head_slice(const Tensor& all_H, int64_t h) { return all_H.empty() ? Tensor{} : all_H.slice(0, h, h + 1); }

std::vector<double> read_doubles(const Context& context, const Tensor& tensor) {
    if (tensor.dtype != Dtype::f64) {
        const std::vector<float> values = context.read_floats(tensor);
        return {values.begin(), values.end()};
    }
    std::vector<double> values(static_cast<size_t>(tensor.numel()));
    context.copy_to_host(values.data(), tensor);
    return values;
}

}  // namespace

void CachedModel::begin_prompt(const CachedText& text) {
    context_.zero(layout_.scores);
    reading_ = text.serial;
}

/// What a chunk's queries give every row, summed over the query heads of its key-value head in their order.
void CachedModel::add_scores(int64_t l, const ops::AttentionInputs& in, const Tensor& lse,
                             const ops::AttentionParams& params) const {
    const int64_t S = in.k.dim(1), H = in.q.dim(2), G = in.k.dim(2);
    const Tensor scores = layer_slice(layout_.scores, l);
    for (int64_t h = 0; h < H; ++h) {
        const int64_t g = h / (H / G);
        const auto of = [](const Tensor& x_BTHD, int64_t head) { return x_BTHD.slice(2, head, head + 1); };
        ops::AttentionParams one = params;
        one.sink_logit_H = head_slice(params.sink_logit_H, h);
        one.alibi_slope_H = head_slice(params.alibi_slope_H, h);
        one.mask.span_H = head_slice(params.mask.span_H, h);
        ops::attention_key_mass(context_, scores.slice(1, g, g + 1).slice(2, 0, S), lse.slice(1, h, h + 1),
                                {of(in.q, h), of(in.k, g), of(in.v, g), Tensor{}}, one);
    }
}

void CachedModel::replace_lightest(int64_t l, int64_t B) const {
    const HeadCache& head = sizes_.layers[static_cast<size_t>(l)].rings.front();
    const int64_t G = sizes_.shape.heads(), W = step_.table.dim(3);
    // A text that is too short to fill its slots has a narrower table; its rows then go one after the other.
    const int64_t slots = std::min(ring_slots(head), W * ops::kCacheBlockRows);
    ops::lightest_slots(context_, layer_slice(step_.slots, l).view({B, G}), scores_, pool_.positions_PR,
                        layer_slice(step_.table, l).view({B, G, W}), step_.positions, slots,
                        std::min(head.span, slots - 1));
}

/// Where each row of a prompt goes, [L,P,G]; -1: it is dropped.
std::vector<int32_t> CachedModel::slots_of_prompt(const CachedText& text) const {
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads(), P = text.position, N = layout_.scores.dim(2);
    const std::vector<double> scores = read_doubles(context_, layout_.scores);
    std::vector<int32_t> slots(static_cast<size_t>(L * P * G), -1);
    for (int64_t l = 0; l < L; ++l)
        for (int64_t g = 0; g < G; ++g) {
            const HeadCache& head = sizes_.layers[static_cast<size_t>(l)].rings[static_cast<size_t>(g)];
            int64_t slot = 0;
            for (const int64_t row : heavy_rows(
                     head, std::span(scores).subspan(static_cast<size_t>((l * G + g) * N), static_cast<size_t>(P))))
                slots[static_cast<size_t>((l * P + row) * G + g)] = text.blocks.row(l, g, slot++, ops::kCacheBlockRows);
        }
    return slots;
}

void CachedModel::end_prompt(const CachedText& text) {
    if (reading_ == 0 || text.serial != reading_) return;
    reading_ = 0;
    const int64_t L = sizes_.shape.layers(), G = sizes_.shape.heads(), P = text.position;
    std::vector<int32_t> positions(static_cast<size_t>(P));
    for (int64_t p = 0; p < P; ++p) positions[static_cast<size_t>(p)] = static_cast<int32_t>(p);
    upload(step_.positions, layout_.positions, {P}, positions);
    upload(step_.slots, layout_.slots, {L, P, G}, slots_of_prompt(text));
    const int64_t blocks = scores_.dim(0), rows = scores_.dim(1);
    const Tensor scores = scores_.view({blocks, rows, 1});
    for (int64_t l = 0; l < L; ++l) {
        const Tensor slots = layer_slice(step_.slots, l).view({P, G});
        ops::cache_write(context_, pool_, key_rows(layout_.keys, l, P), key_rows(layout_.values, l, P), slots,
                         step_.positions);
        const Tensor score_rows = as_rows(layer_slice(layout_.scores, l), P);
        ops::cache_write(context_, {scores, scores, pool_.positions_PR}, score_rows, score_rows, slots,
                         step_.positions);
    }
}

}  // namespace ballast::infer

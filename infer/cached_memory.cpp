// The part of CachedModel for policies that keep everything in blocks and read the most relevant ones (InfLLM).
#include "infer/cached_model.h"

namespace ballast::infer {
namespace {

Tensor layer_slice(const Tensor& all, int64_t layer) { return all.slice(0, layer, layer + 1); }

}  // namespace

/// A step's rows with keys that are not rotated, at the place of their positions; and what leaves the ring with them.
void CachedModel::remember(int64_t l, const Tensor& k, const Tensor& v) const {
    const int64_t B = k.dim(0), G = k.dim(1), W = step_.table.dim(3);
    ops::cache_write(context_, pool_, k, v, layer_slice(step_.far_slots, l).view({B, G}),
                     layout_.origin.slice(0, 0, B));
    ops::memory_store(context_, kept_scores_, representatives_, scores_, pool_,
                      layer_slice(step_.table, l).view({B, G, W}), step_.positions, *sizes_.memory);
}

/// The table of what each text's query reads.
Tensor CachedModel::blocks_read(int64_t l, const Tensor& q) const {
    const int64_t B = q.dim(0), G = sizes_.shape.heads(), W = step_.table.dim(3);
    const Tensor read = layout_.read.slice(0, 0, B);
    ops::memory_lookup(context_, read, layout_.relevance.slice(0, 0, B), q, representatives_,
                       layer_slice(step_.table, l).view({B, G, W}), step_.positions, *sizes_.memory);
    return read;
}

}  // namespace ballast::infer

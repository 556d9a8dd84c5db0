// The part of CachedModel for policies that keep everything in blocks and read the most relevant ones (InfLLM).
#include "infer/cached_model.h"

namespace ballast::infer {

/// A step's rows with keys that are not rotated, at the place of their positions; and room for them in the ring.
void CachedModel::remember(int64_t l, const Tensor& k, const Tensor& v) const {
    const int64_t B = k.dim(0), G = k.dim(1);
    ops::cache_write(context_, pool_, k, v, step_.far_slots.slice(0, l, l + 1).view({B, G}),
                     layout_.origin.slice(0, 0, B));
    ops::memory_store(context_, representatives_, scores_, pool_, table_of_layer(l), step_.positions, *sizes_.memory);
}

/// The table of what each row's query reads.
Tensor CachedModel::blocks_read(int64_t l, const Tensor& q) const {
    const int64_t B = q.dim(0);
    const Tensor read = layout_.read.slice(0, 0, B);
    ops::memory_lookup(context_, read, layout_.relevance.slice(0, 0, B), q, representatives_, table_of_layer(l),
                       step_.positions, *sizes_.memory);
    return read;
}

}  // namespace ballast::infer

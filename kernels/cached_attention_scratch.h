// The scratch memory of cached_attention_forward, with the same layout on every device.
#pragma once

#include "kernels/ops.h"

namespace ballast {

/// The partial results of the splits, read by the merge. Each partial result has one entry per query head of the group:
/// place(partial, head).
template <class A>
struct CachedAttentionPartials {
    int64_t heads_per_group = 0, head_dim = 0;
    A *maximum = nullptr, *sum = nullptr;  // [N, heads per group]
    A* values = nullptr;                   // [N, heads per group, D]: weighted values, not yet divided by the sum
    A* logits = nullptr;  // [N, heads per group, kCacheSplitSlots]: -inf where hidden; null when no mass is wanted
    A* lse = nullptr;     // [B, H]; null when no mass is wanted

    CachedAttentionPartials(const ops::CachedAttentionShape& shape, void* memory)
        : heads_per_group(shape.heads / shape.kv_heads), head_dim(shape.head_dim) {
        const int64_t places = shape.items * heads_per_group;
        values = static_cast<A*>(memory);
        maximum = values + places * shape.head_dim;
        sum = maximum + places;
        if (!shape.with_mass) return;
        logits = sum + places;
        lse = logits + places * ops::kCacheSplitSlots;
    }
    static size_t bytes(const ops::CachedAttentionShape& shape) {
        const int64_t places = shape.items * (shape.heads / shape.kv_heads);
        int64_t elements = places * (shape.head_dim + 2);
        if (shape.with_mass) elements += places * ops::kCacheSplitSlots + shape.sequences * shape.heads;
        return static_cast<size_t>(elements) * sizeof(A);
    }
};

/// The shape of a call.
inline ops::CachedAttentionShape cached_attention_shape(const Tensor& q_BHD, const ops::CacheRows& rows,
                                                        const ops::CachedAttentionWork& work, bool with_mass) {
    return {q_BHD.dim(0), q_BHD.dim(1), rows.table_BGW.dim(1), q_BHD.dim(2), work.items_N3.dim(0), with_mass};
}

}  // namespace ballast

// The scratch memory of cached_attention_forward, laid out the same on every device.
#pragma once

#include "kernels/ops.h"

namespace ballast {

/// What the splits leave for the merge. A partial result has a place for each query head of a group: place(partial,
/// head).
template <class A>
struct CachedAttentionPartials {
    int64_t heads_per_group = 0, head_dim = 0;
    A *maximum = nullptr, *sum = nullptr;  // [N, heads per group]
    A* values = nullptr;                   // [N, heads per group, D]: not yet divided by the sum
    A* logits = nullptr;  // [N, heads per group, kCacheSplitSlots]: -inf where hidden; null: no mass wanted
    A* lse = nullptr;     // [B, H]; null: no mass wanted

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

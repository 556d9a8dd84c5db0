// The paged cache on a GPU: not yet.
#include "kernels/cuda/ops.h"

namespace ballast::cuda {

void cache_write(Context&, const PagedCache&, const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
    require(false, "cache_write has no kernel for a GPU yet");
}

void cache_read(Context&, const Tensor&, const Tensor&, const PagedCache&, const CacheRows&, int64_t, int64_t) {
    require(false, "cache_read has no kernel for a GPU yet");
}

void cached_attention_forward(Context&, const Tensor&, const Tensor&, const Tensor&, const PagedCache&,
                              const CacheRows&, const Tensor&, const CachedAttentionWork&, const AttentionParams&,
                              const Tensor&) {
    require(false, "cached_attention_forward has no kernel for a GPU yet");
}

void attention_influence(Context&, const Influence&, int64_t, const Tensor&, const Tensor&, const Tensor&,
                         const AttentionInputs&, const AttentionParams&) {
    require(false, "attention_influence has no kernel for a GPU yet");
}

void attention_key_mass(Context&, const Tensor&, const Tensor&, const AttentionInputs&, const AttentionParams&) {
    require(false, "attention_key_mass has no kernel for a GPU yet");
}

}  // namespace ballast::cuda

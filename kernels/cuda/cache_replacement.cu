#include "kernels/cuda/cache_replacement.cuh"

namespace ballast::cuda {

void lightest_slots(Context& context, const Tensor& slots, const Tensor& mass, const Tensor& positions,
                    const Tensor& table, const Tensor& position, int64_t capacity, int64_t recent) {
    if (slots.numel() == 0) return;
    with_accumulation_type(mass.dtype, [&]<class A>(A) {
        launch(lightest_slots_kernel<A>, grid_of(slots.numel(), 1), kReplacementThreads, {}, context.stream(),
               data_of<int32_t>(slots), data_of<A>(mass), data_of<const int32_t>(positions),
               data_of<const int32_t>(table), data_of<const int32_t>(position), mass.dim(0), table.dim(1), table.dim(2),
               capacity, recent);
    });
}

}  // namespace ballast::cuda

#include "kernels/cuda/linear_cross_entropy.cuh"

#include <algorithm>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear.h"

namespace ballast::cuda {
namespace {

/// Rows whose logits are held at once. Every chunk reads and writes all of d_weight and reads all of `weight`, so they
/// are few: as many rows as a GiB of f32 holds, a multiple of 256 so that products have whole tiles, chunks alike.
int64_t chunk_rows(const Context& context, int64_t rows, int64_t vocabulary) {
    constexpr int64_t kElements = int64_t{1} << 28, kTile = 256;
    const int64_t most =
        context.loss_rows() > 0 ? context.loss_rows() : std::max(kTile, kElements / vocabulary / kTile * kTile);
    const int64_t chunks = std::max<int64_t>(1, ceil_div(rows, most));
    return std::min({rows, most, ceil_div(ceil_div(rows, chunks), kTile) * kTile});
}

/// A chunk's logits, and their gradient in the dtype of the products where that is another.
struct ChunkMemory {
    ChunkMemory(Dtype x, int64_t elements)
        : logits_bytes(padded(static_cast<size_t>(elements) * size_of(accumulation_dtype(x)))),
          gradient_bytes(x == accumulation_dtype(x) ? 0 : padded(static_cast<size_t>(elements) * size_of(x))) {}

    size_t logits_bytes, gradient_bytes;
};

}  // namespace

size_t linear_cross_entropy_scratch_bytes(const Context& context, Dtype x, Dtype weight, int64_t rows,
                                          int64_t vocabulary, int64_t channels) {
    const ChunkMemory memory(x, chunk_rows(context, rows, vocabulary) * vocabulary);
    return memory.logits_bytes + memory.gradient_bytes + weight_bytes(x, weight, vocabulary * channels);
}

void linear_cross_entropy(Context& context, const Tensor& losses, const Tensor& d_x, const Tensor& d_weight,
                          const Tensor& x, const LinearWeight& head, const Tensor& targets, double loss_factor,
                          const Tensor& scalars) {
    const int64_t rows = x.dim(0), channels = x.dim(1), vocabulary = head.weight.dim(0);
    const int64_t chunk = chunk_rows(context, rows, vocabulary);
    const ChunkMemory memory(x.dtype, chunk * vocabulary);
    const size_t bytes = memory.logits_bytes + memory.gradient_bytes;
    const Scratch::Block scratch(context.scratch(),
                                 bytes + weight_bytes(x.dtype, head.weight.dtype, vocabulary * channels));
    const Tensor weight = converted_weight(context, head, x.dtype, static_cast<char*>(scratch.data()) + bytes);
    void* logits = scratch.data();
    void* gradient = memory.gradient_bytes == 0 ? logits : static_cast<char*>(logits) + memory.logits_bytes;

    for (int64_t first = 0; first < rows; first += chunk) {
        const int64_t count = std::min(chunk, rows - first);
        const Tensor x_chunk = x.slice(0, first, first + count);
        gemm(context, {.dtype = x.dtype,
                       .m = count,
                       .n = vocabulary,
                       .k = channels,
                       .a = {x_chunk.data, channels, 1},
                       .b = {weight.data, 1, channels},
                       .c = logits});
        with_compute_type(x.dtype, [&]<class T>(T) {
            using A = Accumulator<T>;
            const auto run = [&](auto n) {
                launch(cross_entropy_kernel<T, n>, grid_of(count, 1), cross_entropy_threads(vocabulary / n), {},
                       context.stream(), data_of<A>(losses) + first, d_x.empty() ? nullptr : static_cast<T*>(gradient),
                       static_cast<const A*>(logits), data_of<const int32_t>(targets) + first,
                       static_cast<int32_t>(vocabulary), loss_factor, data_of<const ops::StepScalars>(scalars));
            };
            if (vocabulary % kPackSize<T> == 0)
                run(std::integral_constant<int, kPackSize<T>>{});
            else
                run(std::integral_constant<int, 1>{});
        });
        if (d_x.empty()) continue;
        gemm(context, {.dtype = x.dtype,
                       .m = count,
                       .n = channels,
                       .k = vocabulary,
                       .a = {gradient, vocabulary, 1},
                       .b = {weight.data, channels, 1},
                       .c = d_x.slice(0, first, first + count).data,
                       .narrow_c = x.dtype != accumulation_dtype(x.dtype)});
        if (d_weight.empty()) continue;
        gemm(context, {.dtype = x.dtype,
                       .m = vocabulary,
                       .n = channels,
                       .k = count,
                       .a = {gradient, 1, vocabulary},
                       .b = {x_chunk.data, channels, 1},
                       .c = d_weight.data,
                       .accumulate = true});
    }
}

}  // namespace ballast::cuda

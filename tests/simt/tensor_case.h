// Tensors, boxes and places for TMA, those that leave the tensor on every side included.
#pragma once

#include <cstring>
#include <vector>

#include "base/philox.h"
#include "kernels/simt/buffer.h"
#include "tests/simt/hopper_kernels.cuh"

namespace ballast::test {

/// A tensor with padding between its rows, its boxes, and where one box may be.
struct TensorCase {
    TensorLayout layout;
    size_t elements = 0;  ///< of the memory
};

inline TensorCase make_tensor_case(int rank, TensorElement element, Swizzle swizzle) {
    constexpr uint64_t kSizes[] = {0, 5, 3, 4, 2};
    constexpr uint32_t kBoxes[] = {0, 4, 2, 3, 2};
    const unsigned bytes = element_bytes(element);
    TensorCase c;
    TensorLayout& layout = c.layout;
    layout.element = element;
    layout.rank = rank;
    layout.swizzle = swizzle;
    layout.box[0] = (swizzle == Swizzle::none ? 48 : swizzle_span(swizzle)) / bytes;
    layout.size[0] = layout.box[0] + 7;
    uint64_t stride = (layout.size[0] * bytes + 15) / 16 * 16 + 16;
    for (size_t i = 1; i < static_cast<size_t>(rank); ++i) {
        layout.size[i] = kSizes[i];
        layout.box[i] = kBoxes[i];
        layout.stride[i - 1] = stride;
        stride = stride * layout.size[i] + 32;
    }
    c.elements = stride / bytes;
    return c;
}

template <class T>
std::vector<T> random_values(size_t count, std::string_view name) {
    const Philox random(5, name);
    std::vector<T> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<T>(random.uniform(i) * 60000);
    return values;
}

/// Coordinates around every edge of the tensor.
template <int Rank>
std::vector<Coordinates<Rank>> places(const TensorLayout& layout) {
    std::vector<Coordinates<Rank>> all(2 + 8);
    for (size_t d = 0; d < Rank; ++d) all[1].c[d] = -1 - static_cast<int>(d);
    const Philox random(17, "places");
    for (size_t i = 2; i < all.size(); ++i)
        for (size_t d = 0; d < Rank; ++d) {
            const double range = static_cast<double>(layout.size[d] + layout.box[d]);
            all[i].c[d] = static_cast<int>(random.uniform(i * 8 + d) * range) - static_cast<int>(layout.box[d]);
        }
    return all;
}

/// The tile after a load of c's box at these coordinates. `c.layout.base` is set.
template <int Rank>
std::vector<char> run_load(const TensorCase& c, const Coordinates<Rank>& at) {
    const unsigned bytes = c.layout.box_bytes();
    Buffer<char> image(bytes);
    launch(load_kernel<Rank>, 1, 64, SmemPlan().take<char>(bytes, 1024).shared(), nullptr, make_tensor_map(c.layout),
           at, image.data(), bytes);
    return image.values();
}

/// The tensor after `blocks` blocks stored (or added) a tile at these coordinates.
template <class T, int Rank, bool Add>
std::vector<T> run_store(TensorCase c, const Coordinates<Rank>& at, const std::vector<T>& before,
                         const std::vector<T>& tile, unsigned blocks) {
    const unsigned bytes = c.layout.box_bytes();
    std::vector<char> tile_bytes(bytes);
    std::memcpy(tile_bytes.data(), tile.data(), bytes);
    const Buffer<char> image(tile_bytes);
    Buffer<T> tensor(before);
    c.layout.base = tensor.data();
    launch(store_kernel<Rank, Add>, blocks, 64, SmemPlan().take<char>(bytes, 1024).shared(), nullptr,
           make_tensor_map(c.layout), at, image.data(), bytes);
    return tensor.values();
}

/// c = a b^T by gemm_kernel.
inline std::vector<float> run_gemm(const std::vector<__nv_bfloat16>& a, const std::vector<__nv_bfloat16>& b, int m,
                                   int n, int k) {
    const Buffer<__nv_bfloat16> a_memory(a), b_memory(b);
    Buffer<float> c(static_cast<size_t>(m * n));
    const auto map_of = [](const void* base, TensorElement element, int rows, int columns, uint32_t box_rows,
                           uint32_t box_columns, Swizzle swizzle) {
        return make_tensor_map({.base = base,
                                .element = element,
                                .rank = 2,
                                .size = {static_cast<uint64_t>(columns), static_cast<uint64_t>(rows)},
                                .stride = {static_cast<uint64_t>(columns) * element_bytes(element)},
                                .box = {box_columns, box_rows},
                                .swizzle = swizzle});
    };
    launch(gemm_kernel<3>,
           dim3(static_cast<unsigned>((n + kGemmN - 1) / kGemmN), static_cast<unsigned>((m + kGemmM - 1) / kGemmM)),
           160, gemm_plan(3).shared(), nullptr,
           map_of(a_memory.data(), TensorElement::bf16, m, k, kGemmM, 64, Swizzle::bytes_128),
           map_of(b_memory.data(), TensorElement::bf16, n, k, kGemmN, 64, Swizzle::bytes_128),
           map_of(c.data(), TensorElement::f32, m, n, kGemmM, kGemmN, Swizzle::none), k);
    return c.values();
}

}  // namespace ballast::test

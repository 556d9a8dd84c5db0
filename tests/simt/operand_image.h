// Operands of wgmma as shared memory holds them, laid out by plain loops.
#pragma once

#include <cstring>
#include <vector>

#include "base/philox.h"
#include "kernels/simt/buffer.h"
#include "tests/simt/hopper_kernels.cuh"

namespace ballast::test {

inline constexpr Swizzle kSwizzles[] = {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128};

template <class T>
std::vector<T> random_matrix(int rows, int columns, std::string_view name) {
    const Philox random(11, name);
    std::vector<T> values(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    for (size_t i = 0; i < values.size(); ++i) values[i] = T(static_cast<float>(random.normal(i)));
    return values;
}

/// A tile of `rows` (of A, or columns of B) x kProductK: an image for shared memory, and its description.
struct Image {
    OperandTile tile;
    std::vector<char> bytes;
};

/// Where chunk i of 16 bytes goes: rows of span bytes; row r's chunks are permuted by an exclusive or with so many bits
/// of r that eight rows of 128 bytes, written one after the other, touch each bank once.
inline size_t operand_place(size_t byte, Swizzle swizzle) {
    const size_t span = swizzle_span(swizzle), row = byte / span, chunk = byte % span / 16;
    const size_t by = swizzle == Swizzle::bytes_128  ? row % 8
                      : swizzle == Swizzle::bytes_64 ? row / 2 % 4
                      : swizzle == Swizzle::bytes_32 ? row / 4 % 2
                                                     : 0;
    return row * span + (chunk ^ by) * 16 + byte % 16;
}

/// x[mn * row_stride + k * k_stride], laid out.
template <class T>
Image image_of(const T* x, size_t row_stride, size_t k_stride, unsigned rows, ptx::Major major, Swizzle swizzle) {
    const unsigned span = swizzle_span(swizzle), per_span = span / 2, k = kProductK;
    Image image;
    OperandTile& t = image.tile;
    t.swizzle = swizzle;
    const unsigned contiguous = major == ptx::Major::k ? k : rows, across = major == ptx::Major::k ? rows : k;
    const unsigned blocks = (contiguous + per_span - 1) / per_span;  // of `across` rows of one span
    t.bytes = (blocks * across * span + 1023) / 1024 * 1024;
    if (major == ptx::Major::k) {
        t.stride = 8 * span;
        t.leading = swizzle == Swizzle::none ? rows * span : 16;
        t.steps_per_block = swizzle == Swizzle::none ? 1 : span / 32;
        t.step = 32;
        t.block = (swizzle == Swizzle::none ? 2 : 1) * rows * span;  // 16 k are two unswizzled blocks
    } else {
        t.stride = swizzle == Swizzle::none ? k * span : 8 * span;
        t.leading = swizzle == Swizzle::none ? 8 * span : k * span;
        t.steps_per_block = 1;
        t.step = 0;
        t.block = 16 * span;
    }
    image.bytes.assign(t.bytes, static_cast<char>(0xff));
    for (unsigned mn = 0; mn < rows; ++mn)
        for (unsigned j = 0; j < k; ++j) {
            const unsigned along = major == ptx::Major::k ? j : mn, other = major == ptx::Major::k ? mn : j;
            const size_t byte = (along / per_span * across + other) * size_t{span} + along % per_span * 2;
            std::memcpy(&image.bytes[operand_place(byte, swizzle)], x + mn * row_stride + j * k_stride, 2);
        }
    return image;
}

/// c + a b by product_kernel: a kProductRows x kProductK, b kProductK x N, c kProductRows x N. The tiles do not begin
/// where shared memory does.
template <class T, int N, ptx::Major A, ptx::Major B, bool InRegisters>
std::vector<float> run_product(const std::vector<T>& a, const std::vector<T>& b, const std::vector<float>& c,
                               Swizzle a_swizzle, Swizzle b_swizzle) {
    Image rows = image_of(a.data(), kProductK, 1, 64, A, a_swizzle);
    const Image second = image_of(a.data() + 64 * kProductK, kProductK, 1, 64, A, a_swizzle);
    rows.bytes.insert(rows.bytes.end(), second.bytes.begin(), second.bytes.end());
    const Image columns = image_of(b.data(), 1, N, N, B, b_swizzle);
    const Buffer<char> a_image(rows.bytes), b_image(columns.bytes);
    const Buffer<T> a_values(a);
    Buffer<float> d(c);
    ProductArguments arguments{.d = d.data(),
                               .a_image = a_image.data(),
                               .b_image = b_image.data(),
                               .a = a_values.data(),
                               .a_tile = rows.tile,
                               .b_tile = columns.tile,
                               .a_offset = 3 * tile_alignment(a_swizzle)};
    const unsigned a_end = arguments.a_offset + 2 * rows.tile.bytes;
    arguments.b_offset = (a_end + 1023) / 1024 * 1024 + 5 * tile_alignment(b_swizzle);
    arguments.shared_bytes = arguments.b_offset + columns.tile.bytes;
    launch(product_kernel<T, N, A, B, InRegisters>, 1, 256,
           SmemPlan().take<char>(arguments.shared_bytes, 1024).shared(), nullptr, arguments);
    return d.values();
}

/// (a b) b of 64 x 64 matrices by chained_products_kernel.
template <class T>
std::vector<float> run_chained_products(const std::vector<T>& a, const std::vector<T>& b) {
    const Buffer<char> a_image(image_of(a.data(), 64, 1, 64, ptx::Major::k, Swizzle::bytes_128).bytes);
    const Buffer<char> b_image(image_of(b.data(), 1, 64, 64, ptx::Major::mn, Swizzle::bytes_128).bytes);
    Buffer<float> y(64 * 64);
    launch(chained_products_kernel<T>, 1, 128, SmemPlan().take<char>(8192, 1024).take<char>(8192, 1024).shared(),
           nullptr, y.data(), a_image.data(), b_image.data());
    return y.values();
}

}  // namespace ballast::test

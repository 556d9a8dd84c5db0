// wgmma against a plain double loop: every N, both types, A from shared memory and registers, both majors, all
// swizzles.
#include <cstring>
#include <vector>

#include "base/philox.h"
#include "kernels/simt/buffer.h"
#include "tests/catch.h"
#include "tests/simt/hopper_kernels.cuh"
#include "tests/simt/orders.h"

using namespace ballast;
using namespace ballast::simt;
using namespace ballast::test;
using ptx::Major;

namespace {

constexpr Swizzle kSwizzles[] = {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128};

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
size_t permuted(size_t byte, Swizzle swizzle) {
    const size_t span = swizzle_span(swizzle), row = byte / span, chunk = byte % span / 16;
    const size_t by = swizzle == Swizzle::bytes_128  ? row % 8
                      : swizzle == Swizzle::bytes_64 ? row / 2 % 4
                      : swizzle == Swizzle::bytes_32 ? row / 4 % 2
                                                     : 0;
    return row * span + (chunk ^ by) * 16 + byte % 16;
}

/// x[mn * row_stride + k * k_stride], laid out.
template <class T>
Image image_of(const T* x, size_t row_stride, size_t k_stride, unsigned rows, Major major, Swizzle swizzle) {
    const unsigned span = swizzle_span(swizzle), per_span = span / 2, k = kProductK;
    Image image;
    OperandTile& t = image.tile;
    t.swizzle = swizzle;
    const unsigned contiguous = major == Major::k ? k : rows, across = major == Major::k ? rows : k;
    const unsigned blocks = (contiguous + per_span - 1) / per_span;  // of `across` rows of one span
    t.bytes = (blocks * across * span + 1023) / 1024 * 1024;
    if (major == Major::k) {
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
            const unsigned along = major == Major::k ? j : mn, other = major == Major::k ? mn : j;
            const size_t byte = (along / per_span * across + other) * size_t{span} + along % per_span * 2;
            std::memcpy(&image.bytes[permuted(byte, swizzle)], x + mn * row_stride + j * k_stride, 2);
        }
    return image;
}

double relative_error(const std::vector<float>& x, const std::vector<double>& reference) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        difference += (x[i] - reference[i]) * (x[i] - reference[i]);
        norm += reference[i] * reference[i];
    }
    return std::sqrt(difference / norm);
}

template <class T, int N, Major A, Major B, bool InRegisters>
void check_product() {
    const auto a = random_matrix<T>(kProductRows, kProductK, "a");
    const auto b = random_matrix<T>(kProductK, N, "b");
    const auto c = random_matrix<float>(kProductRows, N, "c");
    std::vector<double> reference(c.begin(), c.end());
    for (size_t m = 0; m < kProductRows; ++m)
        for (size_t n = 0; n < N; ++n)
            for (size_t k = 0; k < kProductK; ++k)
                reference[m * N + n] += static_cast<double>(static_cast<float>(a[m * kProductK + k])) *
                                        static_cast<double>(static_cast<float>(b[k * N + n]));
    for (const Swizzle a_swizzle : kSwizzles)
        for (const Swizzle b_swizzle : kSwizzles) {
            if (InRegisters && a_swizzle != Swizzle::none) continue;
            Image first = image_of(a.data(), kProductK, 1, 64, A, a_swizzle);
            const Image second = image_of(a.data() + 64 * kProductK, kProductK, 1, 64, A, a_swizzle);
            first.bytes.insert(first.bytes.end(), second.bytes.begin(), second.bytes.end());
            const Image columns = image_of(b.data(), 1, N, N, B, b_swizzle);
            const Buffer<char> a_image(first.bytes), b_image(columns.bytes);
            const Buffer<T> a_values(a);
            Buffer<float> d(c);
            ProductArguments arguments{.d = d.data(),
                                       .a_image = a_image.data(),
                                       .b_image = b_image.data(),
                                       .a = a_values.data(),
                                       .a_tile = first.tile,
                                       .b_tile = columns.tile,
                                       .a_offset = 3 * tile_alignment(a_swizzle)};
            const unsigned a_end = arguments.a_offset + 2 * first.tile.bytes;
            arguments.b_offset = (a_end + 1023) / 1024 * 1024 + 5 * tile_alignment(b_swizzle);
            arguments.shared_bytes = arguments.b_offset + columns.tile.bytes;
            launch(product_kernel<T, N, A, B, InRegisters>, 1, 256,
                   SmemPlan().take<char>(arguments.shared_bytes, 1024).shared(), nullptr, arguments);
            const double error = relative_error(d.values(), reference);
            CAPTURE(N, A, B, InRegisters, static_cast<int>(a_swizzle), static_cast<int>(b_swizzle), error);
            CHECK(error <= 1e-6);
        }
}

template <class T, int N>
void check_products() {
    check_product<T, N, Major::k, Major::k, false>();
    check_product<T, N, Major::k, Major::mn, false>();
    check_product<T, N, Major::mn, Major::k, false>();
    check_product<T, N, Major::mn, Major::mn, false>();
    check_product<T, N, Major::k, Major::k, true>();
    check_product<T, N, Major::k, Major::mn, true>();
}

}  // namespace

TEST_CASE("simt hopper: wgmma of narrow tiles, all majors and swizzles, A in shared memory and in registers") {
    check_products<__nv_bfloat16, 8>();
    check_products<__nv_bfloat16, 16>();
    check_products<__nv_bfloat16, 32>();
    check_products<__half, 32>();
}

TEST_CASE("simt hopper: wgmma of middle-sized tiles") {
    check_products<__nv_bfloat16, 64>();
    check_products<__nv_bfloat16, 96>();
    check_products<__half, 64>();
}

TEST_CASE("simt hopper: wgmma of wide tiles") {
    check_products<__nv_bfloat16, 128>();
    check_products<__nv_bfloat16, 192>();
    check_products<__nv_bfloat16, 256>();
}

TEST_CASE("simt hopper: two groups of products under way, and accumulators as the next product's operand") {
    const auto a = random_matrix<__nv_bfloat16>(64, 64, "a"), b = random_matrix<__nv_bfloat16>(64, 64, "b");
    const auto at = [](const std::vector<__nv_bfloat16>& x, size_t row, size_t column) {
        return static_cast<double>(static_cast<float>(x[row * 64 + column]));
    };
    std::vector<double> reference(64 * 64, 0.0);
    for (size_t m = 0; m < 64; ++m) {
        std::array<__nv_bfloat16, 64> product{};
        for (size_t n = 0; n < 64; ++n) {
            double sum = 0;
            for (size_t k = 0; k < 64; ++k) sum += at(a, m, k) * at(b, k, n);
            product[n] = __nv_bfloat16(static_cast<float>(sum));
        }
        for (size_t n = 0; n < 64; ++n)
            for (size_t k = 0; k < 64; ++k)
                reference[m * 64 + n] += static_cast<double>(static_cast<float>(product[k])) * at(b, k, n);
    }
    const Buffer<char> a_image(image_of(a.data(), 64, 1, 64, Major::k, Swizzle::bytes_128).bytes);
    const Buffer<char> b_image(image_of(b.data(), 1, 64, 64, Major::mn, Swizzle::bytes_128).bytes);
    for_each_order([&] {
        Buffer<float> y(64 * 64);
        launch(chained_products_kernel<__nv_bfloat16>, 1, 128,
               SmemPlan().take<char>(8192, 1024).take<char>(8192, 1024).shared(), nullptr, y.data(), a_image.data(),
               b_image.data());
        CHECK(relative_error(y.values(), reference) <= 1e-3);  // products rounded to bf16 may differ in the last bit
    });
}

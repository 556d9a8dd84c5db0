// TMA against plain loops over elements: all ranks and swizzles, boxes that leave the tensor on every side; and a small
// GEMM in which producer, consumers and TMA overlap.
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
using Catch::Matchers::ContainsSubstring;

namespace {

/// A tensor with padding between its rows, its boxes, and where one box may be.
struct Case {
    TensorLayout layout;
    size_t elements = 0;  ///< of the memory
};

Case make_case(int rank, TensorElement element, Swizzle swizzle) {
    constexpr uint64_t kSizes[] = {0, 5, 3, 4, 2};
    constexpr uint32_t kBoxes[] = {0, 4, 2, 3, 2};
    const unsigned bytes = element_bytes(element);
    Case c;
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

/// Where the swizzle puts byte i of a tile, said otherwise than in the executor: rows of the pattern are one span.
size_t permuted(size_t i, Swizzle swizzle) {
    if (swizzle == Swizzle::none) return i;
    const size_t span = swizzle_span(swizzle), row = i / span, rows_a_bank_line = 128 / span;
    return row * span + ((i % span / 16) ^ (row / rows_a_bank_line % (span / 16))) * 16 + i % 16;
}

/// Calls visit(place in the tile in bytes, element of the memory or -1).
template <class Visit>
void for_each_element(const TensorLayout& layout, const int* at, const Visit& visit) {
    const unsigned bytes = element_bytes(layout.element);
    for (uint32_t i = 0; i < layout.box_bytes() / bytes; ++i) {
        uint64_t byte = 0, rest = i;
        bool inside = true;
        for (size_t d = 0; d < static_cast<size_t>(layout.rank); ++d) {
            const int64_t x = at[d] + static_cast<int64_t>(rest % layout.box[d]);
            rest /= layout.box[d];
            inside = inside && x >= 0 && x < static_cast<int64_t>(layout.size[d]);
            byte += static_cast<uint64_t>(x) * (d == 0 ? bytes : layout.stride[d - 1]);
        }
        visit(permuted(size_t{i} * bytes, layout.swizzle), inside ? static_cast<int64_t>(byte / bytes) : -1);
    }
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

template <class T, int Rank>
void check_loads(TensorElement element) {
    for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128}) {
        Case c = make_case(Rank, element, swizzle);
        const auto values = random_values<T>(c.elements, "tensor");
        const Buffer<T> tensor(values);
        c.layout.base = tensor.data();
        const unsigned bytes = c.layout.box_bytes();
        for (const auto& at : places<Rank>(c.layout)) {
            std::vector<char> expected(bytes);
            for_each_element(c.layout, at.c, [&](size_t byte, int64_t i) {
                const T value = i < 0 ? T{} : values[static_cast<size_t>(i)];
                std::memcpy(&expected[byte], &value, sizeof value);
            });
            Buffer<char> image(bytes);
            launch(load_kernel<Rank>, 1, 64, SmemPlan().take<char>(bytes, 1024).shared(), nullptr,
                   make_tensor_map(c.layout), at, image.data(), bytes);
            CAPTURE(Rank, static_cast<int>(swizzle), std::vector<int>(at.c, at.c + Rank));
            CHECK(image.values() == expected);
        }
    }
}

template <class T, int Rank, bool Add>
void check_stores(TensorElement element) {
    for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128}) {
        Case c = make_case(Rank, element, swizzle);
        const unsigned bytes = c.layout.box_bytes();
        const auto before = random_values<T>(c.elements, "tensor"), tile = random_values<T>(bytes / sizeof(T), "tile");
        std::vector<char> tile_bytes(bytes);
        std::memcpy(tile_bytes.data(), tile.data(), bytes);
        const Buffer<char> image(tile_bytes);
        for (const auto& at : places<Rank>(c.layout)) {
            constexpr unsigned kBlocks = Add ? 3 : 1;
            auto expected = before;
            for_each_element(c.layout, at.c, [&](size_t byte, int64_t i) {
                if (i < 0) return;
                T& target = expected[static_cast<size_t>(i)];
                for (unsigned block = 0; block < kBlocks; ++block)
                    target = Add ? target + tile[byte / sizeof(T)] : tile[byte / sizeof(T)];
            });
            Buffer<T> tensor(before);
            c.layout.base = tensor.data();
            launch(store_kernel<Rank, Add>, kBlocks, 64, SmemPlan().take<char>(bytes, 1024).shared(), nullptr,
                   make_tensor_map(c.layout), at, image.data(), bytes);
            CAPTURE(Rank, Add, static_cast<int>(swizzle), std::vector<int>(at.c, at.c + Rank));
            CHECK(tensor.values() == expected);
        }
    }
}

std::string error_of(const TensorLayout& layout) {
    try {
        make_tensor_map(layout);
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_CASE("simt hopper: TMA loads of all ranks and swizzles, also from outside of the tensor") {
    check_loads<uint16_t, 2>(TensorElement::bf16);
    check_loads<uint16_t, 3>(TensorElement::fp16);
    check_loads<uint16_t, 4>(TensorElement::bf16);
    check_loads<uint16_t, 5>(TensorElement::bf16);
    check_loads<uint32_t, 2>(TensorElement::f32);
    check_loads<uint32_t, 5>(TensorElement::f32);
}

TEST_CASE("simt hopper: TMA stores and additions of all ranks and swizzles leave what is outside alone") {
    check_stores<uint16_t, 2, false>(TensorElement::bf16);
    check_stores<uint16_t, 3, false>(TensorElement::bf16);
    check_stores<uint16_t, 4, false>(TensorElement::fp16);
    check_stores<uint32_t, 2, false>(TensorElement::f32);
    check_stores<float, 2, true>(TensorElement::f32);
    check_stores<float, 3, true>(TensorElement::f32);
    check_stores<float, 4, true>(TensorElement::f32);
}

TEST_CASE("simt hopper: a tensor map that the hardware would not take is refused") {
    const Buffer<float> memory(1024);
    const TensorLayout good{.base = memory.data(),
                            .element = TensorElement::f32,
                            .rank = 2,
                            .size = {32, 32},
                            .stride = {128},
                            .box = {32, 8},
                            .swizzle = Swizzle::bytes_128};
    CHECK(error_of(good) == "");
    const auto error_with = [&](auto change) {
        TensorLayout layout = good;
        change(layout);
        return error_of(layout);
    };
    CHECK_THAT(error_with([](auto& x) { x.rank = 1; }), ContainsSubstring("rank 1 is not 2 to 5"));
    CHECK_THAT(error_with([](auto& x) { x.rank = 6; }), ContainsSubstring("rank 6 is not 2 to 5"));
    CHECK_THAT(error_with([&](auto& x) { x.base = memory.data() + 1; }), ContainsSubstring("16-byte aligned"));
    CHECK_THAT(error_with([](auto& x) { x.base = nullptr; }), ContainsSubstring("16-byte aligned"));
    CHECK_THAT(error_with([](auto& x) { x.size[1] = 0; }), ContainsSubstring("size 0 of dimension 1"));
    CHECK_THAT(error_with([](auto& x) { x.stride[0] = 136; }), ContainsSubstring("stride 136 of dimension 1"));
    CHECK_THAT(error_with([](auto& x) { x.box[1] = 257; }), ContainsSubstring("box 257 of dimension 1"));
    CHECK_THAT(error_with([](auto& x) { x.box[1] = 0; }), ContainsSubstring("box 0 of dimension 1"));
    CHECK_THAT(error_with([](auto& x) { x.box[0] = 3; }), ContainsSubstring("12 bytes, not a multiple of 16"));
    CHECK_THAT(error_with([](auto& x) { x.box[0] = 16; }), ContainsSubstring("64 bytes, the swizzle's rows 128"));
}

TEST_CASE("simt hopper: a GEMM with a loading warp, a multiplying warpgroup and three stages, under every order") {
    constexpr int kM = 100, kN = 140;
    for (const int k : {40, 456}) {
        const Philox random(3, "gemm");
        const auto matrix = [&](int rows, uint64_t first) {
            std::vector<__nv_bfloat16> values(static_cast<size_t>(rows * k));
            for (size_t i = 0; i < values.size(); ++i)
                values[i] = __nv_bfloat16(static_cast<float>(random.normal(first + i)));
            return values;
        };
        const auto a = matrix(kM, 0), b = matrix(kN, 1 << 20);
        const Buffer<__nv_bfloat16> a_memory(a), b_memory(b);
        const auto map_of = [&](const void* base, TensorElement element, int rows, int columns, uint32_t box_rows,
                                uint32_t box_columns, Swizzle swizzle) {
            const unsigned bytes = element_bytes(element);
            return make_tensor_map({.base = base,
                                    .element = element,
                                    .rank = 2,
                                    .size = {static_cast<uint64_t>(columns), static_cast<uint64_t>(rows)},
                                    .stride = {static_cast<uint64_t>(columns) * bytes},
                                    .box = {box_columns, box_rows},
                                    .swizzle = swizzle});
        };
        const TensorMap a_map = map_of(a_memory.data(), TensorElement::bf16, kM, k, kGemmM, 64, Swizzle::bytes_128);
        const TensorMap b_map = map_of(b_memory.data(), TensorElement::bf16, kN, k, kGemmN, 64, Swizzle::bytes_128);
        for_each_order([&] {
            Buffer<float> c(kM * kN);
            const TensorMap c_map = map_of(c.data(), TensorElement::f32, kM, kN, kGemmM, kGemmN, Swizzle::none);
            launch(gemm_kernel<3>, dim3(2, 2), 160, gemm_plan(3).shared(), nullptr, a_map, b_map, c_map, k);
            const auto values = c.values();
            double worst = 0;
            for (int row = 0; row < kM; ++row)
                for (int column = 0; column < kN; ++column) {
                    double sum = 0;
                    for (int i = 0; i < k; ++i)
                        sum += static_cast<double>(static_cast<float>(a[static_cast<size_t>(row * k + i)])) *
                               static_cast<double>(static_cast<float>(b[static_cast<size_t>(column * k + i)]));
                    const double error =
                        std::abs(sum - static_cast<double>(values[static_cast<size_t>(row * kN + column)]));
                    if (!(error <= worst)) worst = error;
                }
            CHECK(worst <= 2e-4);
        });
    }
}

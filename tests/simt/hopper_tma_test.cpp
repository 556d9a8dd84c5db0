// TMA against plain loops over elements: all ranks and swizzles, boxes that leave the tensor on every side; and a small
// GEMM in which producer, consumers and TMA overlap.
#include <cstring>
#include <vector>

#include "base/larger_or_nan.h"
#include "base/philox.h"
#include "kernels/simt/buffer.h"
#include "tests/catch.h"
#include "tests/simt/orders.h"
#include "tests/simt/tensor_case.h"

using namespace ballast;
using namespace ballast::simt;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

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

template <class T, int Rank>
void check_loads(TensorElement element) {
    for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128}) {
        TensorCase c = make_tensor_case(Rank, element, swizzle);
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
            const auto image = run_load<Rank>(c, at);
            CAPTURE(Rank, static_cast<int>(swizzle), std::vector<int>(at.c, at.c + Rank));
            CHECK(image == expected);
        }
    }
}

template <class T, int Rank, bool Add>
void check_stores(TensorElement element) {
    for (const Swizzle swizzle : {Swizzle::none, Swizzle::bytes_32, Swizzle::bytes_64, Swizzle::bytes_128}) {
        const TensorCase c = make_tensor_case(Rank, element, swizzle);
        const unsigned bytes = c.layout.box_bytes();
        const auto before = random_values<T>(c.elements, "tensor"), tile = random_values<T>(bytes / sizeof(T), "tile");
        for (const auto& at : places<Rank>(c.layout)) {
            constexpr unsigned kBlocks = Add ? 3 : 1;
            auto expected = before;
            for_each_element(c.layout, at.c, [&](size_t byte, int64_t i) {
                if (i < 0) return;
                T& target = expected[static_cast<size_t>(i)];
                for (unsigned block = 0; block < kBlocks; ++block)
                    target = Add ? target + tile[byte / sizeof(T)] : tile[byte / sizeof(T)];
            });
            const auto tensor = run_store<T, Rank, Add>(c, at, before, tile, kBlocks);
            CAPTURE(Rank, Add, static_cast<int>(swizzle), std::vector<int>(at.c, at.c + Rank));
            CHECK(tensor == expected);
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
        for_each_order([&] {
            const auto values = run_gemm(a, b, kM, kN, k);
            double worst = 0;
            for (int row = 0; row < kM; ++row)
                for (int column = 0; column < kN; ++column) {
                    double sum = 0;
                    for (int i = 0; i < k; ++i)
                        sum += static_cast<double>(static_cast<float>(a[static_cast<size_t>(row * k + i)])) *
                               static_cast<double>(static_cast<float>(b[static_cast<size_t>(column * k + i)]));
                    const double value = static_cast<double>(values[static_cast<size_t>(row * kN + column)]);
                    worst = larger_or_nan(worst, std::abs(sum - value));
                }
            CHECK(worst <= 2e-4);
        });
    }
}

// Multiplies few rows of bf16 x by a bf16 weight [O,I] with dot products of bf16 pairs (AVX512-BF16's vdpbf16ps), which
// add 32 products to 16 f32 sums and widen nothing. A tile is up to 8 rows of x by four outputs: one after the other
// for up to 4 rows, where memory is the limit and likes to be read in order; else in pairs, whose 16 chains keep both
// units busy (a chain takes a product every 6 cycles) and share the loads of x.
//
// Order: a (row, output) is 16 sums over vectors of 32 inputs, in the order of the inputs, which are folded in halves.
// It is the same in every tile, so bits depend neither on the other rows and outputs nor on threads. The inputs of the
// last, incomplete vector are followed by zeros on both sides.
//
// Numbers: vdpbf16ps rounds to nearest even and takes denormal inputs and results for zero, whatever the thread's
// settings say; what is smaller than 2^-126 is lost. NaN and infinity come through.
#include "kernels/cpu/by_row.h"

#if defined(__x86_64__)
#include <hwy/base.h>

HWY_DIAGNOSTICS(push)
#if HWY_COMPILER_GCC_ACTUAL  // false alarms on its own header (bug 105593)
HWY_DIAGNOSTICS_OFF(, ignored "-Wuninitialized")
HWY_DIAGNOSTICS_OFF(, ignored "-Wmaybe-uninitialized")
#endif
#include <immintrin.h>
HWY_DIAGNOSTICS(pop)

#include <array>
#include <cstring>
#include <utility>

#include "base/cpu_features.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/simd.h"

namespace ballast::cpu {
namespace {

constexpr int64_t kStep = kPackedStep<bf16>;  // numbers in a vector
constexpr int64_t kTileRows = 8;  // most rows of x in a tile, which stays in the first-level cache up to 1,536 inputs
constexpr int64_t kTileOutputs = 4;
constexpr int64_t kFewRows = 4;  // with so many, outputs one after the other are at the speed of memory
constexpr int64_t kQuad = 4;     // rows whose sums are folded together

struct Bf16ByRow {
    const bf16* x;       // [rows, inputs] as pack_rows() leaves it
    const bf16* weight;  // [outputs, inputs]
    const bf16* bias;    // [outputs] or null
    void* c;             // [rows, outputs], bf16 when `narrow`, else f32
    bool narrow;
    int64_t rows, outputs, inputs;
};

/// Outputs [o, o + count) of a tile.
struct OutputRange {
    int64_t o, count;
};

/// Row n of x, among the rows of its tile: a tile is [steps, rows, kStep], so that a product reads it from one place
/// on, without splitting cache lines. Inputs beyond the last are zeros.
void pack_row(bf16* packed, const bf16* x, int64_t rows, int64_t inputs, int64_t n) {
    const int64_t first = n / kTileRows * kTileRows, tile_rows = std::min(kTileRows, rows - first);
    bf16* to = packed + first * round_up(inputs, kStep) + (n - first) * kStep;
    const bf16* from = x + n * inputs;
    for (int64_t i = 0; i < inputs; i += kStep, to += tile_rows * kStep) {
        const int64_t count = std::min(kStep, inputs - i);
        if (count < kStep) std::memset(static_cast<void*>(to), 0, kStep * sizeof(bf16));
        std::memcpy(to, from + i, static_cast<size_t>(count) * sizeof(bf16));
    }
}

void pack_rows(Context& context, bf16* packed, const bf16* x, int64_t rows, int64_t inputs) {
    const Blocks blocks = row_blocks(rows, inputs);
    context.pool().parallel_for(blocks.size(), [&](int64_t block) {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) pack_row(packed, x, rows, inputs, n);
    });
}

}  // namespace
}  // namespace ballast::cpu

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
namespace ballast::cpu {
namespace {

HWY_INLINE __m512bh load(const bf16* p) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p)); }
/// The same of the weight. Asks for what comes 8 KiB later, in the next outputs: the processor looks ahead by itself
/// only as far as its window of instructions reaches, which many rows fill with products.
HWY_INLINE __m512bh load_from_memory(const bf16* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p) + (8 << 10), _MM_HINT_T0);
    return load(p);
}
/// The first `count`, followed by zeros.
HWY_INLINE __m512bh load_first(const bf16* p, int64_t count) {
    return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(_cvtu32_mask32((1u << count) - 1), p));
}

/// Of one output: the sums of kRows rows of x, filled up to quads.
template <int64_t kRows>
struct Sums {
    __m512 of[round_up(kRows, kQuad)];
};
template <int64_t kRows>
constexpr int64_t kQuadsIn = ceil_div(kRows, kQuad);
/// Of a tile: what fold_quad() makes of its sums.
template <int64_t kRows>
struct Quads {
    __m512 of[kQuadsIn<kRows>][kTileOutputs];
};

HWY_INLINE __m512 fold_two_to_256(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
}
/// The 16 lanes of four sums, folded to 4 each.
HWY_INLINE __m512 fold_quad(const __m512* sums) {
    const __m512 ab = fold_two_to_256(sums[0], sums[1]), cd = fold_two_to_256(sums[2], sums[3]);
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}
HWY_INLINE __m512 fold_two_to_64(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
}
/// From a quad's lanes at each of four outputs: the sums of each row at these outputs.
HWY_INLINE __m512 finish_quad(const __m512 (&lanes)[kTileOutputs]) {
    const __m512 ab = fold_two_to_64(lanes[0], lanes[1]), cd = fold_two_to_64(lanes[2], lanes[3]);
    return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xDD));
}

/// Adds the products of a vector of each row and one of each of kSide outputs.
template <int64_t kRows, int64_t kSide>
HWY_INLINE void add_products(Sums<kRows> (&sums)[kSide], const __m512bh (&weights)[kSide], const bf16* x) {
    for (int64_t r = 0; r < kRows; ++r) {
        const __m512bh row = load(x + r * kStep);
        for (int64_t s = 0; s < kSide; ++s) sums[s].of[r] = _mm512_dpbf16_ps(sums[s].of[r], row, weights[s]);
    }
}

/// The rows of a tile of x at kSide outputs side by side, output j of the tile the first, by quads.
template <int64_t kSide, int64_t kRows>
HWY_INLINE void multiply(const bf16* x, const bf16* weight, int64_t inputs, Quads<kRows>& quads, int64_t j) {
    Sums<kRows> sums[kSide];
    for (auto& output : sums)
        for (__m512& sum : output.of) sum = _mm512_setzero_ps();
    __m512bh weights[kSide];
    int64_t i = 0;
    for (; i + kStep <= inputs; i += kStep, x += kRows * kStep) {
        for (int64_t s = 0; s < kSide; ++s) weights[s] = load_from_memory(weight + s * inputs + i);
        add_products<kRows>(sums, weights, x);
    }
    if (i < inputs) {
        for (int64_t s = 0; s < kSide; ++s) weights[s] = load_first(weight + s * inputs + i, inputs - i);
        add_products<kRows>(sums, weights, x);
    }
    for (int64_t s = 0; s < kSide; ++s)
        for (int64_t q = 0; q < kQuadsIn<kRows>; ++q) quads.of[q][j + s] = fold_quad(sums[s].of + q * kQuad);
}

/// The biases of the outputs, beside every row of a quad.
HWY_INLINE __m512 load_bias(const bf16* bias, int64_t count) {
    const __m128i narrow = _mm_maskz_loadu_epi16(_cvtu32_mask8((1u << count) - 1), bias);
    return _mm512_broadcast_f32x4(_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(narrow), 16)));
}

/// Copies rows of kTileOutputs numbers to c, `count` of each.
template <class T>
HWY_INLINE void copy_outputs(T* c, int64_t c_row, const T* from, int64_t rows, int64_t count) {
    for (int64_t r = 0; r < rows; ++r) {
        T* to = c + r * c_row;
        const T* row = from + r * kTileOutputs;
        if (count == kTileOutputs)
            std::memcpy(to, row, kTileOutputs * sizeof(T));
        else
            std::memcpy(to, row, static_cast<size_t>(count) * sizeof(T));
    }
}
HWY_INLINE void store_quad(const Bf16ByRow& p, __m512 sums, int64_t n, int64_t rows, OutputRange outputs) {
    const int64_t at = n * p.outputs + outputs.o;
    if (p.bias != nullptr) sums = _mm512_add_ps(sums, load_bias(p.bias + outputs.o, outputs.count));
    if (p.narrow) {
        bf16 numbers[kQuad * kTileOutputs];
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(numbers), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sums)));
        copy_outputs(static_cast<bf16*>(p.c) + at, p.outputs, numbers, rows, outputs.count);
    } else {
        float numbers[kQuad * kTileOutputs];
        _mm512_storeu_ps(numbers, sums);
        copy_outputs(static_cast<float*>(p.c) + at, p.outputs, numbers, rows, outputs.count);
    }
}

/// c at rows [n, n + kRows) and at most kTileOutputs outputs.
template <int64_t kRows>
void multiply_tile(const Bf16ByRow& p, int64_t n, OutputRange outputs) {
    constexpr int64_t kSide = kRows <= kFewRows ? 1 : 2;
    Quads<kRows> quads;
    for (auto& quad : quads.of)
        for (__m512& lanes : quad) lanes = _mm512_setzero_ps();
    const bf16* x = p.x + n * round_up(p.inputs, kStep);
    const bf16* weight = p.weight + outputs.o * p.inputs;
    int64_t j = 0;
    for (; j + kSide <= outputs.count; j += kSide) multiply<kSide>(x, weight + j * p.inputs, p.inputs, quads, j);
    if (j < outputs.count) multiply<1>(x, weight + j * p.inputs, p.inputs, quads, j);
    for (int64_t q = 0; q < kQuadsIn<kRows>; ++q)
        store_quad(p, finish_quad(quads.of[q]), n + q * kQuad, std::min(kQuad, kRows - q * kQuad), outputs);
}

using Tile = void (*)(const Bf16ByRow&, int64_t, OutputRange);
template <int64_t... kRows>
constexpr std::array<Tile, kTileRows> tiles_of_one_row_more(std::integer_sequence<int64_t, kRows...>) {
    return {multiply_tile<kRows + 1>...};
}
/// Tiles of 1 to kTileRows rows.
constexpr std::array<Tile, kTileRows> kTiles = tiles_of_one_row_more(std::make_integer_sequence<int64_t, kTileRows>());

}  // namespace
}  // namespace ballast::cpu
HWY_POP_ATTRIBUTES

namespace ballast::cpu {
namespace {

/// All rows at the outputs [begin, end).
void multiply_outputs(const Bf16ByRow& p, int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o += kTileOutputs)
        for (int64_t n = 0; n < p.rows; n += kTileRows)
            kTiles[static_cast<size_t>(std::min(kTileRows, p.rows - n) - 1)](p, n,
                                                                             {o, std::min(kTileOutputs, end - o)});
}

}  // namespace

bool takes_bf16_by_row(const Context& context) {
    static const bool fast = cpu_features().has_fast_bf16_dot_products();
    return fast && context.gemm() == Gemm::automatic && !uses_baseline_simd();
}

void product_by_row_bf16(Context& context, const GemmArguments& g, void* packed) {
    const GemmArguments product = before_epilogue(g);
    const Bf16ByRow p{static_cast<const bf16*>(packed),
                      static_cast<const bf16*>(g.b.data),
                      static_cast<const bf16*>(product.bias),
                      g.c,
                      g.narrow_c,
                      g.m,
                      g.n,
                      g.k};
    pack_rows(context, static_cast<bf16*>(packed), static_cast<const bf16*>(g.a.data), g.m, g.k);
    const Blocks tasks = output_tasks(p.outputs, p.inputs * static_cast<int64_t>(sizeof(bf16)));
    context.pool().parallel_for(tasks.size(), [&](int64_t task) {
        const int64_t begin = tasks.begin(task), end = tasks.end(task);
        multiply_outputs(p, begin, end);
        apply_epilogue(g, 0, begin, p.rows, end - begin);
    });
}

}  // namespace ballast::cpu

#else

namespace ballast::cpu {

bool takes_bf16_by_row(const Context&) { return false; }
void product_by_row_bf16(Context&, const GemmArguments&, void*) { require(false, "no dot products of bf16 here"); }

}  // namespace ballast::cpu
#endif

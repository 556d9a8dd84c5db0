// Multiplies few rows of x by a weight [O,I] at the speed at which memory delivers the weight. Tasks own outputs. A
// tile of a few outputs is read from memory once, with the first rows of x, and from the cache with the other rows.
// Narrow weights are widened in registers. Every (row, output) is a sum over the same virtual lanes in the same order,
// in any tile. So its bits do not depend on the other rows or on their number.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear_by_row.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>
#include <hwy/cache_control.h>

#include "kernels/cpu/by_row.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Vectors of virtual lanes that a sum runs over: two chains of multiply-adds keep up with memory.
inline constexpr int64_t kVectors = 2;
/// The same in native vectors.
template <class A>
inline constexpr int64_t kParts = kVectors* LaneSum<A>::kParts;
/// Most rows of x in a tile, and its outputs. These are multiplied one after the other, so that memory is read in
/// order, as the processor's prefetchers like it: four side by side were read at half the speed.
inline constexpr int kTileRows = 4;
inline constexpr int kTileOutputs = 4;
/// How often a tile of so many rows goes through its inputs, each time for a share of the sums' parts: 16 registers do
/// not hold the sums of more than two rows. (Two outputs side by side with one part at a time were as fast for 16 rows
/// and slower for 4.)
template <class A, int rows>
inline constexpr int64_t kPasses = LaneSum<A>::kParts == 1 || rows <= 2 ? 1 : 2;

template <class A, class W>
struct ByRow {
    const A* x;       // [rows, inputs] as pack_rows() leaves it
    const W* weight;  // [outputs, inputs]
    const A* scale;   // [outputs] or null
    const A* bias;    // [outputs] or null
    A* c;             // [rows, outputs]
    int64_t rows, outputs, inputs;
};

/// Numbers of a row of x in packed memory: whole steps of virtual lanes.
template <class A>
constexpr int64_t packed_inputs(int64_t inputs) {
    static_assert(kPackedStep<A> == kVectors * LaneSum<A>::kLanes);
    return round_up(inputs, kPackedStep<A>);
}

/// Row n of x, among the rows of its tile: a tile is [inputs / native lanes, rows, native lanes], so that a product
/// reads it from one place on, in whatever order it takes the parts of a sum. (Loads at the same place of different
/// cache lines, as rows side by side would be, take turns.) Inputs beyond the last are zeros.
template <class A, class T>
HWY_INLINE void pack_row(A* packed, const T* x, int64_t rows, int64_t inputs, int64_t n) {
    constexpr int64_t kNative = LaneSum<A>::kNative;
    const hn::ScalableTag<A> d;
    const int64_t first = n / kTileRows * kTileRows, tile_rows = std::min<int64_t>(kTileRows, rows - first);
    A* to = packed + first * packed_inputs<A>(inputs) + (n - first) * kNative;
    const T* from = x + n * inputs;
    for (int64_t i = 0; i < packed_inputs<A>(inputs); i += kNative, to += tile_rows * kNative) {
        if (i + kNative <= inputs)
            store(load(d, from + i, All{}), d, to, All{});
        else
            store(load(d, from + i, std::max<int64_t>(inputs - i, 0)), d, to, All{});
    }
}
template <class A, class T>
void pack_rows(Context& context, A* packed, const T* x, int64_t rows, int64_t inputs) {
    const Blocks blocks = row_blocks(rows, inputs);
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) pack_row(packed, x, rows, inputs, n);
    });
}

/// A vector folded in halves down to 16 bytes.
template <class D>
HWY_INLINE auto fold_to_128(D, hn::Vec<D> v) {
    if constexpr (hn::MaxLanes(D()) * sizeof(hn::TFromD<D>) == 16) {
        return v;
    } else {
        const hn::Half<D> half;
        return fold_to_128(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
    }
}

/// What the lanes of outputs' sums, folded to 16 bytes each, add up to, times the scales and plus the biases.
template <class A, class W>
HWY_INLINE void finish(const ByRow<A, W>& p, int64_t n, int64_t o, hn::Vec<hn::Full128<A>> (&lanes)[16 / sizeof(A)]) {
    const hn::Full128<A> d;
    transpose_square(d, lanes);
    for (size_t half = std::size(lanes) / 2; half > 0; half /= 2)
        for (size_t k = 0; k < half; ++k) lanes[k] = hn::Add(lanes[k], lanes[k + half]);
    auto total = lanes[0];
    if (p.scale != nullptr) total = hn::Mul(total, hn::LoadU(d, p.scale + o));
    if (p.bias != nullptr) total = hn::Add(total, hn::LoadU(d, p.bias + o));
    hn::StoreU(total, d, p.c + n * p.outputs + o);
}
/// The same of one output.
template <class A, class W>
HWY_INLINE void finish(const ByRow<A, W>& p, int64_t n, int64_t o, hn::Vec<hn::Full128<A>> lanes) {
    A total = sum_in_halves(hn::Full128<A>(), lanes);
    if (p.scale != nullptr) total *= p.scale[o];
    if (p.bias != nullptr) total += p.bias[o];
    p.c[n * p.outputs + o] = total;
}

/// Asks for kCount numbers of the weight 8 KiB before they are multiplied: the processor looks ahead by itself only as
/// far as its window of instructions reaches, which several rows fill with products.
template <int64_t kCount, class W>
HWY_INLINE void ask_for_later(const W* weight) {
    constexpr size_t kAhead = 8 << 10, kLine = 64;
    for (size_t byte = 0; byte < kCount * sizeof(W); byte += kLine)
        hwy::Prefetch(reinterpret_cast<const char*>(weight) + kAhead + byte);
}

/// totals[r] = the sum of row n + r at output o over every kPasses-th part from kPass on. So a pass reads from every
/// cache line.
template <int64_t kPass, int kRows, class A, class W>
HWY_INLINE void multiply_pass(const ByRow<A, W>& p, int64_t n, int64_t o,
                              hn::Vec<hn::ScalableTag<A>> (&totals)[kRows]) {
    constexpr int64_t kNative = LaneSum<A>::kNative, kStep = kParts<A> * kNative;
    constexpr int64_t kStride = kPasses<A, kRows> * kNative, kCount = kStep / kStride;
    const hn::ScalableTag<A> d;
    const A* x = p.x + n * packed_inputs<A>(p.inputs);
    const W* weight = p.weight + o * p.inputs;
    hn::Vec<decltype(d)> sums[kRows][kCount];
    for (auto& row : sums)
        for (auto& part : row) part = hn::Zero(d);
    const auto add = [&](int64_t part, int64_t i, auto count) HWY_ATTR {
        const auto w = load(d, weight + i, count);
        for (int r = 0; r < kRows; ++r)
            sums[r][part] = hn::MulAdd(hn::LoadU(d, x + i * kRows + r * kNative), w, sums[r][part]);
    };
    int64_t i = kPass * kNative;
    for (int64_t step = 0; step + kStep <= p.inputs; step += kStep) {
        if constexpr (kPass == 0) ask_for_later<kStep>(weight + step);
        for (int64_t part = 0; part < kCount; ++part, i += kStride) add(part, i, All{});
    }
    for (int64_t part = 0; part < kCount; ++part, i += kStride) {
        if (i + kNative <= p.inputs)
            add(part, i, All{});
        else if (i < p.inputs)
            add(part, i, p.inputs - i);
    }
    for (int r = 0; r < kRows; ++r) totals[r] = sum_of_parts(d, sums[r]);
}

/// lanes = the sums of rows [n, n + kRows) at output o, each folded to 16 bytes.
template <int kRows, class A, class W>
HWY_INLINE void multiply(const ByRow<A, W>& p, int64_t n, int64_t o, hn::Vec<hn::Full128<A>> (&lanes)[kRows]) {
    const hn::ScalableTag<A> d;
    hn::Vec<decltype(d)> totals[kRows];
    multiply_pass<0>(p, n, o, totals);
    if constexpr (kPasses<A, kRows> == 2) {  // the last addition of sum_of_parts() over all
        hn::Vec<decltype(d)> odd[kRows];
        multiply_pass<1>(p, n, o, odd);
        for (int r = 0; r < kRows; ++r) totals[r] = hn::Add(totals[r], odd[r]);
    }
    for (int r = 0; r < kRows; ++r) lanes[r] = fold_to_128(d, totals[r]);
}

/// c at rows [n, n + kRows) and `count` outputs, at most kTileOutputs, from o on.
template <int kRows, class A, class W>
HWY_INLINE void multiply_tile(const ByRow<A, W>& p, int64_t n, int64_t o, int64_t count) {
    constexpr int kFew = 16 / sizeof(A);
    hn::Vec<hn::Full128<A>> lanes[kTileOutputs][kRows];
    for (int64_t j = 0; j < count; ++j) multiply(p, n, o + j, lanes[j]);
    for (int r = 0; r < kRows; ++r) {
        int64_t j = 0;
        for (; j + kFew <= count; j += kFew) {
            hn::Vec<hn::Full128<A>> row_sums[kFew];
            for (int k = 0; k < kFew; ++k) row_sums[k] = lanes[j + k][r];
            finish(p, n + r, o + j, row_sums);
        }
        for (; j < count; ++j) finish(p, n + r, o + j, lanes[j][r]);
    }
}

/// All rows at `count` outputs, at most kTileOutputs, from o on.
template <class A, class W>
void multiply_outputs(const ByRow<A, W>& p, int64_t o, int64_t count) {
    int64_t n = 0;
    for (; n + kTileRows <= p.rows; n += kTileRows) multiply_tile<kTileRows>(p, n, o, count);
    switch (p.rows - n) {
        case 3: multiply_tile<3>(p, n, o, count); break;
        case 2: multiply_tile<2>(p, n, o, count); break;
        case 1: multiply_tile<1>(p, n, o, count); break;
        default: break;
    }
}

template <class A, class W>
void run_by_row(Context& context, const GemmArguments& g, const LinearWeight& weight, const A* packed) {
    const GemmArguments product = before_epilogue(g);
    const ByRow<A, W> p{packed,
                        static_cast<const W*>(weight.weight.data),
                        static_cast<const A*>(weight.scale.data),
                        static_cast<const A*>(product.bias),
                        static_cast<A*>(g.c),
                        g.m,
                        g.n,
                        g.k};
    const Blocks tasks = output_tasks(p.outputs, p.inputs * static_cast<int64_t>(sizeof(W)));
    context.pool().parallel_for(tasks.size(), [&](int64_t task) HWY_ATTR {
        const int64_t begin = tasks.begin(task), end = tasks.end(task);
        for (int64_t o = begin; o < end; o += kTileOutputs)
            multiply_outputs(p, o, std::min<int64_t>(kTileOutputs, end - o));
        apply_epilogue(g, 0, begin, p.rows, end - begin);
    });
}

void product_by_row(Context& context, const GemmArguments& g, const Tensor& x, const LinearWeight& weight,
                    void* packed) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        A* rows = static_cast<A*>(packed);
        pack_rows(context, rows, x.ptr<T>(), g.m, g.k);
        if constexpr (std::is_same_v<A, double>) {
            run_by_row<double, double>(context, g, weight, rows);
        } else {
            switch (weight.weight.dtype) {
                case Dtype::f32: return run_by_row<float, float>(context, g, weight, rows);
                case Dtype::bf16: return run_by_row<float, bf16>(context, g, weight, rows);
                case Dtype::i8: return run_by_row<float, int8_t>(context, g, weight, rows);
                default: require(false, "weights that no product reads");
            }
        }
    });
}

void dequantise(Context& context, const Tensor& out, const LinearWeight& weight) {
    const int64_t inputs = out.dim(1);
    const Blocks blocks = row_blocks(out.dim(0), inputs);
    const hn::ScalableTag<float> d;
    const auto to = [&]<class T>(T*) {
        context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
            for (int64_t o = blocks.begin(block); o < blocks.end(block); ++o) {
                const auto scale = hn::Set(d, weight.scale.ptr<float>()[o]);
                const int8_t* from = weight.weight.ptr<int8_t>() + o * inputs;
                T* row = out.ptr<T>() + o * inputs;
                for_vectors(d, inputs, [&](int64_t i, auto lanes) HWY_ATTR {
                    store(hn::Mul(load(d, from + i, lanes), scale), d, row + i, lanes);
                });
            }
        });
    };
    if (out.dtype == Dtype::bf16)
        to(static_cast<bf16*>(nullptr));
    else
        to(static_cast<float*>(nullptr));
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(product_by_row);
HWY_EXPORT(dequantise);

void product_by_row(Context& context, const GemmArguments& g, const Tensor& x, const LinearWeight& weight,
                    void* packed) {
    HWY_DYNAMIC_DISPATCH(product_by_row)(context, g, x, weight, packed);
}

void dequantise(Context& context, const Tensor& out, const LinearWeight& weight) {
    HWY_DYNAMIC_DISPATCH(dequantise)(context, out, weight);
}

}  // namespace ballast::cpu
#endif

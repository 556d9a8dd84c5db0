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
/// Most rows of x in a tile, and its outputs. These are multiplied one after the other, so that memory is read in
/// order, as the processor's prefetchers like it: four side by side were read at half the speed.
template <class A>
inline constexpr int kTileRows = LaneSum<A>::kParts == 1 ? 4 : 2;
inline constexpr int kTileOutputs = 4;

template <class A, class W>
struct ByRow {
    const A* x;       // [rows, inputs]
    const W* weight;  // [outputs, inputs]
    const A* scale;   // [outputs] or null
    const A* bias;    // [outputs] or null
    A* c;             // [rows, outputs]
    int64_t rows, outputs, inputs;
};

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

/// lanes = the sums of rows [n, n + kRows) at output o, each folded to 16 bytes.
template <int kRows, class A, class W>
HWY_INLINE void multiply(const ByRow<A, W>& p, int64_t n, int64_t o, hn::Vec<hn::Full128<A>> (&lanes)[kRows]) {
    using Sum = LaneSum<A>;
    const typename Sum::D d;
    const A* x = p.x + n * p.inputs;
    const W* weight = p.weight + o * p.inputs;
    hn::Vec<typename Sum::D> sums[kRows][kVectors * Sum::kParts];
    for (auto& row : sums)
        for (auto& part : row) part = hn::Zero(d);
    for_virtual_vectors<A, kVectors>(p.inputs, [&](int64_t part, int64_t i, auto count) HWY_ATTR {
        if (part == 0) ask_for_later<kVectors * Sum::kLanes>(weight + i);
        const auto w = load(d, weight + i, count);
        for (int r = 0; r < kRows; ++r)
            sums[r][part] = hn::MulAdd(load(d, x + r * p.inputs + i, count), w, sums[r][part]);
    });
    for (int r = 0; r < kRows; ++r) lanes[r] = fold_to_128(d, sum_of_parts(d, sums[r]));
}

/// c at rows [n, n + kRows) and the kTileOutputs outputs from o on.
template <int kRows, class A, class W>
HWY_INLINE void multiply_tile(const ByRow<A, W>& p, int64_t n, int64_t o) {
    constexpr int kFew = 16 / sizeof(A);
    hn::Vec<hn::Full128<A>> lanes[kTileOutputs][kRows];
    for (int j = 0; j < kTileOutputs; ++j) multiply(p, n, o + j, lanes[j]);
    for (int r = 0; r < kRows; ++r)
        for (int j = 0; j < kTileOutputs; j += kFew) {
            hn::Vec<hn::Full128<A>> row_sums[kFew];
            for (int k = 0; k < kFew; ++k) row_sums[k] = lanes[j + k][r];
            finish(p, n + r, o + j, row_sums);
        }
}

/// All rows at the kTileOutputs outputs from o on.
template <class A, class W>
void multiply_outputs(const ByRow<A, W>& p, int64_t o) {
    int64_t n = 0;
    for (; n + kTileRows<A> <= p.rows; n += kTileRows<A>) multiply_tile<kTileRows<A>>(p, n, o);
    if constexpr (kTileRows < A >> 2)
        for (; n + 2 <= p.rows; n += 2) multiply_tile<2>(p, n, o);
    for (; n < p.rows; ++n) multiply_tile<1>(p, n, o);
}

/// All rows at one output: those that fill no tile.
template <class A, class W>
void multiply_output(const ByRow<A, W>& p, int64_t o) {
    for (int64_t n = 0; n < p.rows; ++n) {
        hn::Vec<hn::Full128<A>> lanes[1];
        multiply(p, n, o, lanes);
        finish(p, n, o, lanes[0]);
    }
}

template <class A, class W>
void run_by_row(Context& context, const GemmArguments& g, const LinearWeight& weight) {
    const GemmArguments product = before_epilogue(g);
    const ByRow<A, W> p{static_cast<const A*>(g.a.data),
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
        int64_t o = begin;
        for (; o + kTileOutputs <= end; o += kTileOutputs) multiply_outputs(p, o);
        for (; o < end; ++o) multiply_output(p, o);
        apply_epilogue(g, 0, begin, p.rows, end - begin);
    });
}

void product_by_row(Context& context, const GemmArguments& g, const LinearWeight& weight) {
    if (g.dtype == Dtype::f64) return run_by_row<double, double>(context, g, weight);
    switch (weight.weight.dtype) {
        case Dtype::f32: return run_by_row<float, float>(context, g, weight);
        case Dtype::bf16: return run_by_row<float, bf16>(context, g, weight);
        case Dtype::i8: return run_by_row<float, int8_t>(context, g, weight);
        default: require(false, "weights that no product reads");
    }
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

void product_by_row(Context& context, const GemmArguments& g, const LinearWeight& weight) {
    HWY_DYNAMIC_DISPATCH(product_by_row)(context, g, weight);
}

void dequantise(Context& context, const Tensor& out, const LinearWeight& weight) {
    HWY_DYNAMIC_DISPATCH(dequantise)(context, out, weight);
}

}  // namespace ballast::cpu
#endif

// Dense tiles: a register-blocked multiply-add and the packing around it (compiled once for every target).
//
// Every output is one chain of fused multiply-adds in the order of k, starting from the present value of C. So its bits
// depend neither on the vector width nor on the division of work. This is the guarantee of `gemm = reference`.

#include <hwy/highway.h>

#include "kernels/cpu/simd-inl.h"

#if defined(BALLAST_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_TILE_INL_H_
#undef BALLAST_KERNELS_CPU_TILE_INL_H_
#else
#define BALLAST_KERNELS_CPU_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Rows and columns of C that the micro-kernel keeps in registers: 12 accumulators, 2 vectors of B, 1 element of A.
inline constexpr int64_t kMicroRows = 6;
template <class A> inline constexpr int64_t kMicroColumns = 2 * static_cast<int64_t>(hn::MaxLanes(hn::ScalableTag<A>()));

/// Element (i, k) is data[i * row + k * column].
template <class A> struct LeftOperand {
    const A* data;
    int64_t row, column;
};

/// Element (k, n) is data[(n / kMicroColumns) * panel + k * row + n % kMicroColumns].
template <class A> struct RightOperand {
    const A* data;
    int64_t row, panel;
};

template <int rows, class A>
HWY_INLINE void micro_kernel(int64_t depth, LeftOperand<A> a, const A* HWY_RESTRICT b, int64_t b_row, A* HWY_RESTRICT c,
                             int64_t c_row, bool accumulate) {
    const hn::ScalableTag<A> d;
    constexpr int64_t kLanes = kMicroColumns<A> / 2;
    hn::Vec<decltype(d)> sum[rows][2];
    for (int i = 0; i < rows; ++i) {
        sum[i][0] = accumulate ? hn::LoadU(d, c + i * c_row) : hn::Zero(d);
        sum[i][1] = accumulate ? hn::LoadU(d, c + i * c_row + kLanes) : hn::Zero(d);
    }
    for (int64_t k = 0; k < depth; ++k) {
        const auto b0 = hn::LoadU(d, b + k * b_row), b1 = hn::LoadU(d, b + k * b_row + kLanes);
        for (int i = 0; i < rows; ++i) {
            const auto x = hn::Set(d, a.data[i * a.row + k * a.column]);
            sum[i][0] = hn::MulAdd(x, b0, sum[i][0]);
            sum[i][1] = hn::MulAdd(x, b1, sum[i][1]);
        }
    }
    for (int i = 0; i < rows; ++i) {
        hn::StoreU(sum[i][0], d, c + i * c_row);
        hn::StoreU(sum[i][1], d, c + i * c_row + kLanes);
    }
}

/// C[rows × columns] = or += A[rows × depth] B[depth × columns] for rows <= kMicroRows; `columns` is rounded up to
/// kMicroColumns, so C and B must have room for that.
template <class A>
HWY_INLINE void multiply_rows(int64_t rows, int64_t columns, int64_t depth, LeftOperand<A> a, RightOperand<A> b, A* c,
                              int64_t c_row, bool accumulate) {
    for (int64_t n = 0; n < columns; n += kMicroColumns<A>, b.data += b.panel, c += kMicroColumns<A>) {
        switch (rows) {
            case 1: micro_kernel<1>(depth, a, b.data, b.row, c, c_row, accumulate); break;
            case 2: micro_kernel<2>(depth, a, b.data, b.row, c, c_row, accumulate); break;
            case 3: micro_kernel<3>(depth, a, b.data, b.row, c, c_row, accumulate); break;
            case 4: micro_kernel<4>(depth, a, b.data, b.row, c, c_row, accumulate); break;
            case 5: micro_kernel<5>(depth, a, b.data, b.row, c, c_row, accumulate); break;
            default: micro_kernel<6>(depth, a, b.data, b.row, c, c_row, accumulate); break;
        }
    }
}

/// out[r * out_row + c] = in[r * in_row + c], widened; columns up to `padded` and nothing else are zeroed.
template <class A, class T>
HWY_INLINE void copy_rows(A* out, int64_t out_row, const T* in, int64_t in_row, int64_t rows, int64_t columns, int64_t padded,
                          A scale = A(1)) {
    const hn::ScalableTag<A> d;
    const auto factor = hn::Set(d, scale);
    for (int64_t r = 0; r < rows; ++r) {
        for_vectors(d, columns, [&](int64_t c, auto lanes) HWY_ATTR {
            store(hn::Mul(load(d, in + r * in_row + c, lanes), factor), d, out + r * out_row + c, lanes);
        });
        for (int64_t c = columns; c < padded; ++c) out[r * out_row + c] = A(0);
    }
}

/// row *= factor, over whole vectors.
template <class A> HWY_INLINE void scale_row(A* row, int64_t count, A factor) {
    const hn::ScalableTag<A> d;
    const auto f = hn::Set(d, factor);
    for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) hn::StoreU(hn::Mul(hn::LoadU(d, row + i), f), d, row + i);
}

/// Transposes in registers: rows[i][j] -> rows[j][i] of 128-bit vectors (4 × 4 floats, 2 × 2 doubles).
template <class D, class V> HWY_INLINE void transpose_square(D d, V (&rows)[4]) {
    const hn::Repartition<double, D> d64;
    const auto lower = [&](V a, V b) HWY_ATTR {
        return hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
    };
    const auto upper = [&](V a, V b) HWY_ATTR {
        return hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, a), hn::BitCast(d64, b)));
    };
    const auto low01 = hn::InterleaveLower(d, rows[0], rows[1]), high01 = hn::InterleaveUpper(d, rows[0], rows[1]);
    const auto low23 = hn::InterleaveLower(d, rows[2], rows[3]), high23 = hn::InterleaveUpper(d, rows[2], rows[3]);
    rows[0] = lower(low01, low23);
    rows[1] = upper(low01, low23);
    rows[2] = lower(high01, high23);
    rows[3] = upper(high01, high23);
}
template <class D, class V> HWY_INLINE void transpose_square(D d, V (&rows)[2]) {
    const auto low = hn::InterleaveLower(d, rows[0], rows[1]);
    rows[1] = hn::InterleaveUpper(d, rows[0], rows[1]);
    rows[0] = low;
}

/// out[c * out_row + r] = in[r * in_row + c], widened; rows up to `padded` are zeroed in out.
template <class A, class T>
HWY_INLINE void transpose_rows(A* out, int64_t out_row, const T* in, int64_t in_row, int64_t rows, int64_t columns,
                               int64_t padded) {
    constexpr int64_t kSide = 16 / sizeof(A);
    const hn::CappedTag<A, kSide> d;
    const int64_t whole_rows = rows / kSide * kSide, whole_columns = columns / kSide * kSide;
    for (int64_t r = 0; r < whole_rows; r += kSide) {
        for (int64_t c = 0; c < whole_columns; c += kSide) {
            hn::Vec<decltype(d)> square[kSide];
            for (int64_t i = 0; i < kSide; ++i) square[i] = load(d, in + (r + i) * in_row + c, All{});
            transpose_square(d, square);
            for (int64_t i = 0; i < kSide; ++i) hn::StoreU(square[i], d, out + (c + i) * out_row + r);
        }
        for (int64_t c = whole_columns; c < columns; ++c)
            for (int64_t i = r; i < r + kSide; ++i) out[c * out_row + i] = static_cast<A>(in[i * in_row + c]);
    }
    for (int64_t c = 0; c < columns; ++c) {
        for (int64_t r = whole_rows; r < rows; ++r) out[c * out_row + r] = static_cast<A>(in[r * in_row + c]);
        for (int64_t r = rows; r < padded; ++r) out[c * out_row + r] = A(0);
    }
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target

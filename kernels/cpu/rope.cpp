#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include <cmath>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Rotates z = (low, high) in pairs (i, i + half) by the angles whose cos and sin are given; `sign` -1 rotates back.
/// `half` must be a multiple of the lanes of D.
template <class D, class T>
HWY_INLINE void rotate(D d, T* out, const T* in, const hn::TFromD<D>* cos, const hn::TFromD<D>* sin, int64_t half,
                       hn::TFromD<D> sign) {
    const auto direction = hn::Set(d, sign);
    for (int64_t i = 0; i < half; i += static_cast<int64_t>(hn::Lanes(d))) {
        const auto c = hn::LoadU(d, cos + i), s = hn::Mul(hn::LoadU(d, sin + i), direction);
        const auto low = load(d, in + i, All{}), high = load(d, in + half + i, All{});
        store(hn::NegMulAdd(high, s, hn::Mul(low, c)), d, out + i, All{});
        store(hn::MulAdd(low, s, hn::Mul(high, c)), d, out + half + i, All{});
    }
}

/// Rotary halves are short (4 to 32), so the vector is chosen to divide them instead of leaving a tail.
template <class T, class A>
HWY_INLINE void rotate_any(T* out, const T* in, const A* cos, const A* sin, int64_t half, A sign) {
    if (half % 8 == 0)
        rotate(hn::CappedTag<A, 8>(), out, in, cos, sin, half, sign);
    else if (half % 4 == 0)
        rotate(hn::CappedTag<A, 4>(), out, in, cos, sin, half, sign);
    else
        rotate(hn::CappedTag<A, 1>(), out, in, cos, sin, half, sign);
}

template <class T> HWY_INLINE T* row(const Tensor& x, int64_t b, int64_t t, int64_t h) {
    return static_cast<T*>(x.data) + b * x.stride[0] + t * x.stride[1] + h * x.stride[2];
}

/// out = x rotated at `position` for all heads of token (b, t); without a table just copied.
template <class T>
HWY_INLINE void rotate_token(const Tensor& out, const Tensor& x, const Tensor& table, int64_t b, int64_t t, int64_t position,
                             int sign) {
    using A = Accumulator<T>;
    const int64_t rotated = table.empty() ? 0 : table.dim(1), half = rotated / 2;
    const A* angles = table.empty() ? nullptr : static_cast<const A*>(table.data) + position * rotated;
    const auto rest = static_cast<size_t>(x.dim(3) - rotated) * sizeof(T);
    for (int64_t h = 0; h < x.dim(2); ++h) {
        T* to = row<T>(out, b, t, h);
        const T* from = row<const T>(x, b, t, h);
        if (half > 0) rotate_any(to, from, angles, angles + half, half, static_cast<A>(sign));
        if (to != from && rest > 0) std::memcpy(to + rotated, from + rotated, rest);
    }
}

/// One tensor of a batch of rotations that share positions; `table` is absent for what is only copied.
struct Rotation {
    Tensor out, x, table;
};

void rotate_tokens(Context& context, std::span<const Rotation> rotations, Positions positions, int sign) {
    const Tensor& x = rotations[0].x;
    const int64_t steps = x.dim(1);
    const Blocks blocks = row_blocks(x.dim(0) * steps, x.dim(2) * x.dim(3) * static_cast<int64_t>(rotations.size()));
    with_compute_type(x.dtype, [&]<class T>(T) {
        context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
            for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
                const int64_t b = n / steps, t = n % steps;
                const int64_t position = std::min(positions.first + t, positions.last);
                for (const Rotation& r : rotations) rotate_token<T>(r.out, r.x, r.table, b, t, position, sign);
            }
        });
    });
}

/// The q, k or v part (part 0, 1, 2) of head-major QKV [B,T,3HD] as a strided [B,T,H,D] view.
Tensor qkv_part(const Tensor& qkv, const Tensor& like, int64_t part) {
    const int64_t dims = like.dim(3), width = qkv.dim(2);
    Tensor view = like;
    view.data = static_cast<char*>(qkv.data) + static_cast<size_t>(part * dims) * size_of(qkv.dtype);
    view.stride = {qkv.dim(1) * width, width, 3 * dims, 1};
    return view;
}

void rope(Context& context, const Tensor& out, const Tensor& x, const Tensor& table, Positions positions, int sign) {
    const Rotation rotation{out, x, table};
    rotate_tokens(context, {&rotation, 1}, positions, sign);
}

void qkv_split(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv, const Tensor& table,
               Positions positions) {
    const Rotation rotations[] = {{q, qkv_part(qkv, q, 0), table}, {k, qkv_part(qkv, k, 1), table}, {v, qkv_part(qkv, v, 2), {}}};
    rotate_tokens(context, rotations, positions, 1);
}

void qkv_join(Context& context, const Tensor& qkv, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& table,
              Positions positions) {
    const Rotation rotations[] = {{qkv_part(qkv, q, 0), q, table}, {qkv_part(qkv, k, 1), k, table}, {qkv_part(qkv, v, 2), v, {}}};
    rotate_tokens(context, rotations, positions, -1);
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(rope);
HWY_EXPORT(qkv_split);
HWY_EXPORT(qkv_join);

void rope_table(Context& context, const Tensor& table, double base) {
    const int64_t rotated = table.dim(1), half = rotated / 2;
    with_accumulation_type(table.dtype, [&]<class A>(A) {
        A* to = table.ptr<A>();
        const Blocks blocks = row_blocks(table.dim(0), rotated * 16);  // cos and sin cost more than most elements
        context.pool().parallel_for(blocks.size(), [&](int64_t block) {
            for (int64_t i = 0; i < half; ++i) {
                const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotated));
                for (int64_t p = blocks.begin(block); p < blocks.end(block); ++p) {
                    const double angle = static_cast<double>(p) * frequency;
                    to[p * rotated + i] = static_cast<A>(std::cos(angle));
                    to[p * rotated + half + i] = static_cast<A>(std::sin(angle));
                }
            }
        });
    });
}

void rope_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& table, Positions positions) {
    HWY_DYNAMIC_DISPATCH(rope)(context, out, x, table, positions, 1);
}

void rope_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& table, Positions positions) {
    HWY_DYNAMIC_DISPATCH(rope)(context, d_x, d_out, table, positions, -1);
}

void qkv_split_rope_forward(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv,
                            const Tensor& table, Positions positions) {
    HWY_DYNAMIC_DISPATCH(qkv_split)(context, q, k, v, qkv, table, positions);
}

void qkv_split_rope_backward(Context& context, const Tensor& d_qkv, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v,
                             const Tensor& table, Positions positions) {
    HWY_DYNAMIC_DISPATCH(qkv_join)(context, d_qkv, d_q, d_k, d_v, table, positions);
}

}  // namespace ballast::cpu
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/rotation.h"

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

/// Offset of head k of group g, token (b, t).
HWY_INLINE int64_t head_offset(const Tensor& x, int64_t b, int64_t t, int64_t g, int64_t k) {
    return b * x.stride[0] + t * x.stride[1] + g * x.stride[2] + k * x.stride[3];
}

/// All heads of token (b, t) at `position`; without a table just copied.
template <class T>
HWY_INLINE void rotate_token(const Rotation& r, int64_t b, int64_t t, int64_t position, int sign) {
    using A = Accumulator<T>;
    const int64_t rotated = r.table.empty() ? 0 : r.table.dim(1), half = rotated / 2;
    const A* angles = r.table.empty() ? nullptr : static_cast<const A*>(r.table.data) + position * rotated;
    const auto rest = static_cast<size_t>(r.x.dim(4) - rotated) * sizeof(T);
    for (int64_t g = 0; g < r.x.dim(2); ++g)
        for (int64_t k = 0; k < r.x.dim(3); ++k) {
            T* to = static_cast<T*>(r.out.data) + head_offset(r.out, b, t, g, k);
            const T* from = static_cast<const T*>(r.x.data) + head_offset(r.x, b, t, g, k);
            if (half > 0) rotate_any(to, from, angles, angles + half, half, static_cast<A>(sign));
            if (to != from && rest > 0) std::memcpy(to + rotated, from + rotated, rest);
        }
}

/// Position of token (b, t); one that only the tensor of positions knows is checked here.
int64_t position_of(const Positions& positions, int64_t b, int64_t t, const Tensor& table) {
    if (positions.rows.empty()) return std::min(positions.first + t, positions.last);
    const int64_t given = positions.rows.ptr<int32_t>()[b * positions.rows.dim(1) + t];
    const int64_t position = std::min(given, positions.last);
    require(table.empty() || (position >= 0 && position < table.dim(0)), "a position is beyond the rope table");
    return position;
}

void rotate_tokens(Context& context, std::span<const Rotation> rotations, const Positions& positions, int sign) {
    const Tensor &x = rotations[0].x, &table = rotations[0].table;
    const int64_t steps = x.dim(1);
    int64_t width = 0;
    for (const Rotation& r : rotations) width += r.x.dim(2) * r.x.dim(3) * r.x.dim(4);
    const Blocks blocks = row_blocks(x.dim(0) * steps, width);
    with_compute_type(x.dtype, [&]<class T>(T) {
        context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
            for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
                const int64_t b = n / steps, t = n % steps, position = position_of(positions, b, t, table);
                for (const Rotation& r : rotations) rotate_token<T>(r, b, t, position, sign);
            }
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(rotate_tokens);

void rope_table(Context& context, const Tensor& table, std::span<const double> inv_freq, double attention_factor) {
    const int64_t rotated = table.dim(1);
    with_accumulation_type(table.dtype, [&]<class A>(A) {
        A* to = table.ptr<A>();
        const Blocks blocks = row_blocks(table.dim(0), rotated * 16);  // cos and sin cost more than most elements
        context.pool().parallel_for(blocks.size(), [&](int64_t block) {
            for (int64_t p = blocks.begin(block); p < blocks.end(block); ++p)
                write_angles(to + p * rotated, p, inv_freq, attention_factor);
        });
    });
}

void rope_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& table,
                  const Positions& positions) {
    HWY_DYNAMIC_DISPATCH(rotate_tokens)(context, rope_rotation(out, x, table), positions, 1);
}

void rope_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& table,
                   const Positions& positions) {
    HWY_DYNAMIC_DISPATCH(rotate_tokens)(context, rope_rotation(d_x, d_out, table), positions, -1);
}

void qkv_split_rope_forward(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv,
                            const Tensor& table, const Positions& positions, QkvLayout layout) {
    HWY_DYNAMIC_DISPATCH(rotate_tokens)(context, split_rotations(q, k, v, qkv, table, layout), positions, 1);
}

void qkv_split_rope_backward(Context& context, const Tensor& d_qkv, const Tensor& d_q, const Tensor& d_k,
                             const Tensor& d_v, const Tensor& table, const Positions& positions, QkvLayout layout) {
    HWY_DYNAMIC_DISPATCH(rotate_tokens)(context, join_rotations(d_qkv, d_q, d_k, d_v, table, layout), positions, -1);
}

}  // namespace ballast::cpu
#endif

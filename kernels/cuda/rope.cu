#include "kernels/cuda/rope.cuh"

#include <cmath>
#include <vector>

#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
Heads<T> heads_of(const Tensor& x) {
    return {data_of<T>(x), x.stride[0], x.stride[1], x.stride[2]};
}

/// The q, k or v part (0, 1, 2) of head-major QKV [B,T,3HD], as heads.
template <class T>
Heads<T> qkv_part(const Tensor& qkv, int64_t dims, int64_t part) {
    const int64_t width = qkv.dim(2);
    return {data_of<T>(qkv) + part * dims, qkv.dim(1) * width, width, 3 * dims};
}

template <class T>
void rotate(Context& context, const Rotations<T>& rotations, unsigned parts, const Tensor& like, const Tensor& table,
            Positions positions, int sign) {
    using A = Accumulator<T>;
    const int64_t count = like.numel();
    if (count == 0) return;
    const Angles<A> angles{data_of<const A>(table), positions.first, positions.last, table.empty() ? 0 : table.dim(1)};
    dim3 grid = grid_of(count, kThreads);
    grid.y = parts;
    launch(rotate_kernel<T>, grid, kThreads, {}, context.stream(), rotations, angles, like.dim(1), like.dim(2),
           like.dim(3), count, static_cast<A>(sign));
}

void rope(Context& context, const Tensor& out, const Tensor& x, const Tensor& table, Positions positions, int sign) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        const Rotations<T> one{{{heads_of<T>(out), heads_of<const T>(x), table.empty() ? 0 : table.dim(1)}}};
        rotate(context, one, 1, x, table, positions, sign);
    });
}

}  // namespace

void rope_table(Context& context, const Tensor& table, double base) {
    // On the host, once, in double: angles of large positions need all its digits.
    const int64_t rows = table.dim(0), rotated = table.dim(1), half = rotated / 2;
    with_accumulation_type(table.dtype, [&]<class A>(A) {
        std::vector<A> values(static_cast<size_t>(rows * rotated));
        for (int64_t i = 0; i < half; ++i) {
            const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotated));
            for (int64_t p = 0; p < rows; ++p) {
                const double angle = static_cast<double>(p) * frequency;
                values[static_cast<size_t>(p * rotated + i)] = static_cast<A>(std::cos(angle));
                values[static_cast<size_t>(p * rotated + half + i)] = static_cast<A>(std::sin(angle));
            }
        }
        if (!values.empty()) context.copy_from_host(table, values.data());
    });
}

void rope_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& table, Positions positions) {
    rope(context, out, x, table, positions, 1);
}

void rope_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& table, Positions positions) {
    rope(context, d_x, d_out, table, positions, -1);
}

void qkv_split_rope_forward(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv,
                            const Tensor& table, Positions positions) {
    with_compute_type(q.dtype, [&]<class T>(T) {
        const int64_t dims = q.dim(3), rotated = table.empty() ? 0 : table.dim(1);
        const Rotations<T> parts{{{heads_of<T>(q), qkv_part<const T>(qkv, dims, 0), rotated},
                                  {heads_of<T>(k), qkv_part<const T>(qkv, dims, 1), rotated},
                                  {heads_of<T>(v), qkv_part<const T>(qkv, dims, 2), 0}}};
        rotate(context, parts, 3, q, table, positions, 1);
    });
}

void qkv_split_rope_backward(Context& context, const Tensor& d_qkv, const Tensor& d_q, const Tensor& d_k,
                             const Tensor& d_v, const Tensor& table, Positions positions) {
    with_compute_type(d_q.dtype, [&]<class T>(T) {
        const int64_t dims = d_q.dim(3), rotated = table.empty() ? 0 : table.dim(1);
        const Rotations<T> parts{{{qkv_part<T>(d_qkv, dims, 0), heads_of<const T>(d_q), rotated},
                                  {qkv_part<T>(d_qkv, dims, 1), heads_of<const T>(d_k), rotated},
                                  {qkv_part<T>(d_qkv, dims, 2), heads_of<const T>(d_v), 0}}};
        rotate(context, parts, 3, d_q, table, positions, -1);
    });
}

}  // namespace ballast::cuda

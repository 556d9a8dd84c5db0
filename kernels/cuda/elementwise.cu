#include "kernels/cuda/elementwise.cuh"

#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

constexpr int kThreads = 256;

/// Calls f(std::integral_constant<int, N>): packs where every pointer and the count allow it, else single elements.
template <class T, class F>
void with_pack_size(bool packed, F&& f) {
    if (packed)
        f(std::integral_constant<int, kPackSize<T>>{});
    else
        f(std::integral_constant<int, 1>{});
}

template <class To, class From>
void cast_elements(Context& context, const Tensor& out, const Tensor& in) {
    using Wide = std::conditional_t<(sizeof(To) > sizeof(From)), To, From>;  // a pack of 16 bytes of the wider type
    auto* to = data_of<To>(out);
    const auto* from = data_of<From>(in);
    const int64_t count = out.numel();
    with_pack_size<Wide>(can_pack_all<Wide>(count, to, from), [&](auto n) {
        constexpr int N = n;
        launch(cast_kernel<To, From, N>, grid_of(count, int64_t{kThreads} * N), kThreads, {}, context.stream(), to,
               from, count);
    });
}

template <class Unit>
void copy_units(Context& context, const Tensor& out, const Tensor& in) {
    const auto unit = static_cast<int64_t>(sizeof(Unit) / size_of(out.dtype));  // elements
    const int last = out.rank - 1;
    StridedRows rows{Divisor(last < 0 ? 1 : out.dim(last) / unit), {}, {}, {}};
    for (int d = 0; d < last; ++d) {
        const auto from = static_cast<size_t>(d);
        const int to = 4 - last + d;
        rows.extent[to] = Divisor(out.shape[from]);
        rows.out_stride[to] = out.stride[from] / unit;
        rows.in_stride[to] = in.stride[from] / unit;
    }
    const int64_t count = out.numel() / unit;
    launch(copy_kernel<Unit>, grid_of(count, kThreads), kThreads, {}, context.stream(), data_of<Unit>(out),
           data_of<const Unit>(in), rows, units_of(count));
}

/// Whether every row of both tensors begins at a multiple of 16 bytes and has whole packs.
bool rows_are_aligned(const Tensor& out, const Tensor& in) {
    const auto unit = static_cast<int64_t>(16 / size_of(out.dtype));
    bool aligned = out.rank > 0 && out.dim(-1) % unit == 0 &&
                   (reinterpret_cast<uintptr_t>(out.data) | reinterpret_cast<uintptr_t>(in.data)) % 16 == 0;
    for (int d = 0; d < out.rank - 1; ++d) {
        const auto i = static_cast<size_t>(d);
        aligned = aligned && out.stride[i] % unit == 0 && in.stride[i] % unit == 0;
    }
    return aligned;
}

}  // namespace

void add(Context& context, const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& c) {
    const int64_t count = out.numel();
    if (count == 0) return;
    with_compute_type(out.dtype, [&]<class T>(T) {
        T* to = data_of<T>(out);
        const T *x = data_of<T>(a), *y = data_of<T>(b), *z = data_of<T>(c);
        with_pack_size<T>(can_pack_all<T>(count, to, x, y, z), [&](auto n) {
            constexpr int N = n;
            launch(add_kernel<T, N>, grid_of(count, int64_t{kThreads} * N), kThreads, {}, context.stream(), to, x, y, z,
                   count);
        });
    });
}

void clamp_forward(Context& context, const Tensor& out, const Tensor& x, double limit) {
    const int64_t count = x.numel();
    if (count == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        T* to = data_of<T>(out);
        const T* from = data_of<T>(x);
        with_pack_size<T>(can_pack_all<T>(count, to, from), [&](auto n) {
            constexpr int N = n;
            launch(clamp_forward_kernel<T, N>, grid_of(count, int64_t{kThreads} * N), kThreads, {}, context.stream(),
                   to, from, count, static_cast<Accumulator<T>>(limit));
        });
    });
}

void clamp_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& x, double limit) {
    const int64_t count = x.numel();
    if (count == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        T* to = data_of<T>(d_x);
        const T *gradient = data_of<T>(d_out), *from = data_of<T>(x);
        with_pack_size<T>(can_pack_all<T>(count, to, gradient, from), [&](auto n) {
            constexpr int N = n;
            launch(clamp_backward_kernel<T, N>, grid_of(count, int64_t{kThreads} * N), kThreads, {}, context.stream(),
                   to, gradient, from, count, static_cast<Accumulator<T>>(limit));
        });
    });
}

void cast(Context& context, const Tensor& out, const Tensor& in) {
    if (out.numel() == 0) return;
    with_compute_type(out.dtype, [&]<class To>(To) {
        with_compute_type(in.dtype, [&]<class From>(From) { cast_elements<To, From>(context, out, in); });
    });
}

void copy(Context& context, const Tensor& out, const Tensor& in) {
    if (out.numel() == 0) return;
    if (rows_are_aligned(out, in)) return copy_units<uint4>(context, out, in);
    switch (size_of(out.dtype)) {
        case 1: return copy_units<uint8_t>(context, out, in);
        case 2: return copy_units<uint16_t>(context, out, in);
        case 4: return copy_units<uint32_t>(context, out, in);
        default: return copy_units<uint64_t>(context, out, in);
    }
}

void sum(Context& context, const Tensor& out, const Tensor& x) {
    const int64_t count = x.numel(), partials = ceil_div(count, kSumPerBlock);
    const Scratch::Block scratch(context.scratch(), static_cast<size_t>(partials) * sizeof(double));
    auto* sums = static_cast<double*>(scratch.data());
    with_accumulation_type(x.dtype, [&]<class A>(A) {
        if (count > 0)
            launch(partial_sums_kernel<A>, grid_of(count, kSumPerBlock), kSumThreads, {}, context.stream(), sums,
                   data_of<const A>(x), count);
    });
    launch(total_kernel, 1, kSumThreads, {}, context.stream(), data_of<double>(out), sums, partials);
}

}  // namespace ballast::cuda

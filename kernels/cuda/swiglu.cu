#include "kernels/cuda/swiglu.cuh"

#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

template <class T, int N>
void forward(Context& context, const Tensor& out, const Tensor& gate_up) {
    const int64_t packs = out.numel() / N;
    launch(swiglu_forward_kernel<T, N>, grid_of(packs, kSwigluThreads), kSwigluThreads, {}, context.stream(),
           data_of<T>(out), data_of<const T>(gate_up), units_of(packs), Divisor(out.dim(1) / N));
}

template <class T, int N>
void backward(Context& context, const Tensor& d_gate_up, const Tensor& d_out, const Tensor& gate_up) {
    const int64_t packs = d_out.numel() / N;
    launch(swiglu_backward_kernel<T, N>, grid_of(packs, kSwigluThreads), kSwigluThreads, {}, context.stream(),
           data_of<T>(d_gate_up), data_of<const T>(d_out), data_of<const T>(gate_up), units_of(packs),
           Divisor(d_out.dim(1) / N));
}

}  // namespace

void swiglu_forward(Context& context, const Tensor& out, const Tensor& gate_up) {
    if (out.numel() == 0) return;
    with_compute_type(out.dtype, [&]<class T>(T) {
        if (can_pack_all<T>(out.dim(1), out.data, gate_up.data))
            forward<T, kPackSize<T>>(context, out, gate_up);
        else
            forward<T, 1>(context, out, gate_up);
    });
}

void swiglu_backward(Context& context, const Tensor& d_gate_up, const Tensor& d_out, const Tensor& gate_up) {
    if (d_out.numel() == 0) return;
    with_compute_type(d_out.dtype, [&]<class T>(T) {
        if (can_pack_all<T>(d_out.dim(1), d_gate_up.data, d_out.data, gate_up.data))
            backward<T, kPackSize<T>>(context, d_gate_up, d_out, gate_up);
        else
            backward<T, 1>(context, d_gate_up, d_out, gate_up);
    });
}

}  // namespace ballast::cuda

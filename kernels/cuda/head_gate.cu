#include "kernels/cuda/head_gate.cuh"

#include "kernels/cuda/ops.h"

namespace ballast::cuda {

void head_gate_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& gate) {
    const int64_t rows = gate.numel(), dims = x.dim(3);
    if (rows == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        const auto run = [&](auto kernel) {
            launch(kernel, grid_of(rows, kGateRows), kGateThreads, {}, context.stream(), data_of<T>(out),
                   data_of<const T>(x), data_of<const T>(gate), rows, static_cast<int>(dims));
        };
        if (can_pack_all<T>(dims, out.data, x.data))
            run(head_gate_forward_kernel<T, kPackSize<T>>);
        else
            run(head_gate_forward_kernel<T, 1>);
    });
}

void head_gate_backward(Context& context, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_out, const Tensor& x,
                        const Tensor& gate) {
    const int64_t rows = gate.numel(), dims = x.dim(3);
    if (rows == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        const auto run = [&](auto kernel) {
            launch(kernel, grid_of(rows, kGateRows), kGateThreads, {}, context.stream(), data_of<T>(d_x),
                   data_of<T>(d_gate), data_of<const T>(d_out), data_of<const T>(x), data_of<const T>(gate), rows,
                   static_cast<int>(dims));
        };
        if (can_pack_all<T>(dims, d_x.data, d_out.data, x.data))
            run(head_gate_backward_kernel<T, kPackSize<T>>);
        else
            run(head_gate_backward_kernel<T, 1>);
    });
}

}  // namespace ballast::cuda

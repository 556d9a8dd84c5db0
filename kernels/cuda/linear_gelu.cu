// The MLP's two linear layers with the GELU between them as an epilogue of their products. The forward product of the
// up projection stores u and gelu(u); the backward product of the down projection multiplies by gelu'(u). So [N,F] is
// not read and written an additional time. cuBLASLt supports the tanh kind; gelu.cuh's kernels do the erf kind and
// unsupported shapes.
#include "kernels/cuda/gelu.cuh"

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear.h"

namespace ballast::cuda {
namespace {

/// f(T{}, Kind{}, std::integral_constant<int, N>): N elements of T a thread.
template <class F>
void with_gelu(const Tensor& u, const Tensor& other, Gelu kind, F&& f) {
    with_compute_type(u.dtype, [&]<class T>(T) {
        const auto with_kind = [&](auto n) {
            if (kind == Gelu::tanh)
                f(T{}, TanhGate{}, n);
            else
                f(T{}, std::conditional_t<sizeof(T) == 2, ErfGate16, ErfGate>{}, n);
        };
        if (can_pack_all<T>(u.numel(), u.data, other.data))
            with_kind(std::integral_constant<int, kPackSize<T>>{});
        else
            with_kind(std::integral_constant<int, 1>{});
    });
}

void gelu_forward(Context& context, const Tensor& out, const Tensor& u, Gelu kind) {
    const int64_t count = u.numel();
    if (count == 0) return;
    with_gelu(u, out, kind, [&]<class T, class Kind, int N>(T, Kind, std::integral_constant<int, N>) {
        launch(gelu_forward_kernel<T, Kind, N>, grid_of(count, int64_t{kGeluThreads} * N), kGeluThreads, {},
               context.stream(), data_of<T>(out), data_of<const T>(u), count);
    });
}

void gelu_backward(Context& context, const Tensor& gradient, const Tensor& u, Gelu kind) {
    const int64_t count = u.numel();
    if (count == 0) return;
    with_gelu(u, gradient, kind, [&]<class T, class Kind, int N>(T, Kind, std::integral_constant<int, N>) {
        launch(gelu_backward_kernel<T, Kind, N>, grid_of(count, int64_t{kGeluThreads} * N), kGeluThreads, {},
               context.stream(), data_of<T>(gradient), data_of<const T>(u), count);
    });
}

}  // namespace

void linear_gelu_forward(Context& context, const Tensor& out, const Tensor& pre, const Tensor& x,
                         const LinearWeight& stored, Gelu kind, Products products) {
    if (products == Products::by_row) {
        linear_by_row(context, pre, x, stored);
        return gelu_forward(context, out, pre, kind);
    }
    const int64_t rows = x.dim(0), inputs = x.dim(1), features = out.dim(1);
    const Scratch::Block scratch(context.scratch(), weight_bytes(x.dtype, stored.weight.dtype, features * inputs));
    const LinearWeight weight{converted_weight(context, stored, x.dtype, scratch.data()), stored.bias};
    const GemmArguments product{.dtype = x.dtype,
                                .m = rows,
                                .n = features,
                                .k = inputs,
                                .a = {x.data, inputs, 1},
                                .b = {weight.weight.data, 1, inputs},
                                .c = out.data,
                                .bias = weight.bias.data,
                                .narrow_c = is_narrow(x.dtype),
                                .epilogue = kind == Gelu::tanh ? Epilogue::gelu_tanh : Epilogue::gelu_erf,
                                .aux = pre.data,
                                .aux_dtype = x.dtype};
    if (gemm_with_epilogue(context, product)) return;
    cuda::linear_forward(context, pre, x, weight, Products::gemm);
    gelu_forward(context, out, pre, kind);
}

void gelu_linear_backward(Context& context, const Tensor& d_pre, const Tensor& d_weight, const Tensor& d_bias,
                          const Tensor& d_out, const Tensor& hidden, const Tensor& pre, const Tensor& weight,
                          Gelu kind) {
    const int64_t rows = pre.dim(0), features = pre.dim(1), outputs = weight.dim(0);
    GemmArguments product{.dtype = pre.dtype,
                          .m = rows,
                          .n = features,
                          .k = outputs,
                          .a = {d_out.data, outputs, 1},
                          .b = {weight.data, features, 1},
                          .c = d_pre.data,
                          .narrow_c = is_narrow(pre.dtype),
                          .epilogue = kind == Gelu::tanh ? Epilogue::d_gelu_tanh : Epilogue::d_gelu_erf,
                          .aux = pre.data,
                          .aux_dtype = pre.dtype};
    if (!gemm_with_epilogue(context, product)) {
        product.epilogue = Epilogue::none;
        gemm(context, product);
        gelu_backward(context, d_pre, pre, kind);
    }
    linear_backward(context, Tensor{}, d_weight, d_bias, d_out, hidden, weight);
}

}  // namespace ballast::cuda

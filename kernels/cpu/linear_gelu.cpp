// The MLP's two linear layers with the GELU between them as an epilogue of their products (epilogue.h).
#include "kernels/cpu/linear.h"
#include "kernels/cpu/ops.h"

namespace ballast::cpu {

void linear_gelu_forward(Context& context, const Tensor& out, const Tensor& pre, const Tensor& x,
                         const LinearWeight& weight, Gelu kind, Products products) {
    linear_forward_to(context, out, x, weight, products, kind == Gelu::tanh ? Epilogue::gelu_tanh : Epilogue::gelu_erf, pre);
}

void gelu_linear_backward(Context& context, const Tensor& d_pre, const Tensor& d_weight, const Tensor& d_bias,
                          const Tensor& d_out, const Tensor& hidden, const Tensor& pre, const Tensor& weight,
                          Gelu kind) {
    linear_backward_to(context, d_pre, d_weight, d_bias, d_out, hidden, weight,
                       kind == Gelu::tanh ? Epilogue::d_gelu_tanh : Epilogue::d_gelu_erf, pre);
}

}  // namespace ballast::cpu

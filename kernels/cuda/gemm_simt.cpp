#include <vector>

#include "kernels/cpu/gemm.h"
#include "kernels/cuda/gemm.h"
#include "kernels/simt/queue.h"

namespace ballast::cuda {
namespace {

/// A bf16 operand widened, with the same strides.
std::vector<float> widened(const Matrix& matrix, int64_t rows, int64_t columns) {
    const auto last = (rows - 1) * matrix.row + (columns - 1) * matrix.column;
    std::vector<float> values(static_cast<size_t>(last + 1));
    const auto* from = static_cast<const bf16*>(matrix.data);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(from[i]);
    return values;
}

void multiply(Context& context, const GemmArguments& arguments) {
    if (arguments.dtype != Dtype::bf16 || arguments.m == 0 || arguments.n == 0 || arguments.k == 0)
        return cpu::gemm_reference(context, arguments);
    GemmArguments wide = arguments;
    const std::vector<float> a = widened(arguments.a, arguments.m, arguments.k),
                             b = widened(arguments.b, arguments.k, arguments.n);
    std::vector<float> bias, c;
    wide.dtype = Dtype::f32;
    wide.narrow_c = false;
    wide.a.data = a.data();
    wide.b.data = b.data();
    if (arguments.bias != nullptr) {
        bias = widened({arguments.bias, arguments.n, 1}, 1, arguments.n);
        wide.bias = bias.data();
    }
    if (arguments.narrow_c) {
        require(!arguments.accumulate, "a product is accumulated in f32");
        c.resize(static_cast<size_t>(arguments.m * arguments.n));
        wide.c = c.data();
    }
    cpu::gemm_reference(context, wide);
    for (size_t i = 0; i < c.size(); ++i) static_cast<bf16*>(arguments.c)[i] = bf16(c[i]);
}

}  // namespace

void gemm(Context& context, const GemmArguments& arguments) {
    simt::queue([&context, arguments] { multiply(context, arguments); });
}

}  // namespace ballast::cuda

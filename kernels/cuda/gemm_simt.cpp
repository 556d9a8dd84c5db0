#include <algorithm>
#include <vector>

#include "kernels/cpu/gemm.h"
#include "kernels/cuda/gemm.h"
#include "kernels/simt/device_memory.h"
#include "kernels/simt/options.h"
#include "kernels/simt/queue.h"

namespace ballast::cuda {
namespace {

/// A narrow operand widened, with the same strides.
template <class T>
std::vector<float> widened(const Matrix& matrix, int64_t rows, int64_t columns) {
    const auto last = (rows - 1) * matrix.row + (columns - 1) * matrix.column;
    std::vector<float> values(static_cast<size_t>(last + 1));
    const auto* from = static_cast<const T*>(matrix.data);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(from[i]);
    return values;
}

template <class T>
void narrow(T* to, const std::vector<float>& from) {
    std::transform(from.begin(), from.end(), to, [](float x) { return T(x); });
}

/// A product of T, which is bf16 or f16: operands are widened, so every sum is in f32, and the result rounded once.
template <class T>
void gemm_of_narrow(Context& context, const GemmArguments& arguments) {
    GemmArguments wide = arguments;
    const std::vector<float> a = widened<T>(arguments.a, arguments.m, arguments.k),
                             b = widened<T>(arguments.b, arguments.k, arguments.n);
    std::vector<float> bias, c, aux;
    wide.dtype = Dtype::f32;
    wide.narrow_c = false;
    wide.a.data = a.data();
    wide.b.data = b.data();
    if (arguments.bias != nullptr) {
        bias = widened<T>({arguments.bias, arguments.n, 1}, 1, arguments.n);
        wide.bias = bias.data();
    }
    if (arguments.narrow_c) {
        require(!arguments.accumulate, "a product is accumulated in f32");
        c.resize(static_cast<size_t>(arguments.m * arguments.n));
        wide.c = c.data();
    }
    if (arguments.epilogue != Epilogue::none) {
        aux = is_gelu(arguments.epilogue) ? std::vector<float>(c.size())
                                          : widened<T>({arguments.aux, arguments.n, 1}, arguments.m, arguments.n);
        wide.aux = aux.data();
        wide.aux_dtype = Dtype::f32;
    }
    cpu::gemm_reference(context, wide);
    narrow(static_cast<T*>(arguments.c), c);
    if (is_gelu(arguments.epilogue)) narrow(static_cast<T*>(arguments.aux), aux);
}

void multiply(Context& context, const GemmArguments& arguments) {
    const simt::DeviceAccess access;
    const bool empty = arguments.m == 0 || arguments.n == 0 || arguments.k == 0;
    if (empty || !is_narrow(arguments.dtype)) return cpu::gemm_reference(context, arguments);
    if (arguments.dtype == Dtype::bf16) return gemm_of_narrow<bf16>(context, arguments);
    gemm_of_narrow<f16>(context, arguments);
}

}  // namespace

bool library_product(Context& context, const GemmArguments& arguments) {
    require(arguments.dtype != Dtype::f64 || !simt::options().strict, "f64 is not for a GPU");
    require(arguments.bias == nullptr || has_fusable_bias(arguments), "a bias that cuBLASLt would not take");
    require(arguments.epilogue == Epilogue::none || has_fusable_epilogue(arguments), "an epilogue it would not take");
    simt::queue([&context, arguments] { multiply(context, arguments); });
    return true;
}

}  // namespace ballast::cuda

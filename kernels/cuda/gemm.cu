// Matrix products: the library's, and kernels for the steps that the library does not support.
#include "kernels/cuda/gemm.h"

#include <string>

#include "base/error.h"
#include "kernels/cuda/gemm_bias.cuh"

namespace ballast::cuda {
namespace {

[[noreturn]] void throw_no_algorithm(const GemmArguments& g) {
    const std::string shape = std::to_string(g.m) + " x " + std::to_string(g.n) + " x " + std::to_string(g.k);
    throw RunError("cuBLASLt has no algorithm for a " + shape + " product of " + std::string(name_of(g.dtype)));
}

/// C += bias, in C's type.
void add_bias(Context& context, const GemmArguments& g) {
    with_compute_type(g.dtype, [&]<class T>(T) {
        const auto add = [&]<class C>(C* c) {
            launch(add_bias_kernel<T, C>, bias_grid(g.m, g.n), kBiasThreads, {}, context.stream(), c,
                   static_cast<const T*>(g.bias), g.m, g.n);
        };
        if (g.narrow_c)
            add(static_cast<T*>(g.c));
        else
            add(static_cast<Accumulator<T>*>(g.c));
    });
}

}  // namespace

void gemm(Context& context, const GemmArguments& g) {
    if (g.m == 0 || g.n == 0) return;
    require(g.k > 0, "an empty product");
    require(g.epilogue == Epilogue::none, "an epilogue that may not exist");
    require(g.bias == nullptr || !g.accumulate, "a bias begins a product");
    const bool asks_for_bias = g.bias != nullptr && has_fusable_bias(g);
    if ((g.bias == nullptr || asks_for_bias) && library_product(context, g)) return;
    GemmArguments plain = g;
    plain.bias = nullptr;
    if (g.bias == nullptr || !library_product(context, plain)) throw_no_algorithm(plain);
    add_bias(context, g);
}

bool gemm_with_epilogue(Context& context, const GemmArguments& g) {
    if (!has_fusable_epilogue(g) || g.m == 0 || g.n == 0) return false;
    require(g.k > 0 && !g.accumulate, "an epilogue ends a product");
    return library_product(context, g);
}

}  // namespace ballast::cuda

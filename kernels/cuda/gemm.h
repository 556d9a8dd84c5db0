// Matrix products of the GPU backend: cuBLASLt (gemm_cuda.cpp) or, under the executor, the CPU's fixed-order GEMM
// (gemm_simt.cpp).
#pragma once

#include "kernels/context.h"
#include "kernels/gemm.h"

namespace ballast::cuda {

/// Products of f32, bf16 or fp16 operands (f64 under the executor), accumulated in f32 (f64). Queued. Without
/// epilogues. When the library does not add the bias, a kernel of ours does.
void gemm(Context&, const GemmArguments&);

/// The same with an epilogue; false, with nothing queued, when the library does not support it.
bool gemm_with_epilogue(Context&, const GemmArguments&);

/// One call of the library, with bias and epilogue; false, with nothing queued, when it has no algorithm. The bias or
/// epilogue must be fusable (below).
bool library_product(Context&, const GemmArguments&);

// The requirements of cuBLASLt's epilogues. The executor has the same ones, so that tests cover both paths.

/// A bias comes in the type of C.
inline bool has_fusable_bias(const GemmArguments& g) { return g.narrow_c || g.dtype == accumulation_dtype(g.dtype); }

/// The tanh GELU of 16-bit types (in f32 its approximation of tanh is coarser than f32's rounding), rows of aux a
/// multiple of 8 elements apart, aux aligned.
inline bool has_fusable_epilogue(const GemmArguments& g) {
    return (g.epilogue == Epilogue::gelu_tanh || g.epilogue == Epilogue::d_gelu_tanh) && g.dtype != Dtype::f32 &&
           g.n % 8 == 0 && reinterpret_cast<uintptr_t>(g.aux) % 16 == 0;
}

}  // namespace ballast::cuda

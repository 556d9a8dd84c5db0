// Matrix products of the GPU backend: cuBLASLt (gemm_cuda.cpp) or, under the executor, the CPU's fixed-order GEMM
// (gemm_simt.cpp).
#pragma once

#include "kernels/context.h"
#include "kernels/gemm.h"

namespace ballast::cuda {

/// Products of f32, bf16 or fp16 operands (f64 under the executor), accumulated in f32 (f64). Queued. Without
/// epilogues. A bias that the library does not add is added by a kernel of ours.
void gemm(Context&, const GemmArguments&);

/// The same with an epilogue; false, and nothing is queued, where the library has none for it.
bool gemm_with_epilogue(Context&, const GemmArguments&);

/// One call of the library, bias and epilogue included; false, and nothing is queued, where it has no algorithm. Of a
/// bias or an epilogue it is only asked what is fusable.
bool library_product(Context&, const GemmArguments&);

// What cuBLASLt's epilogues ask for. The executor asks for the same, so that tests walk both ways.

/// A bias comes in the type of C.
inline bool has_fusable_bias(const GemmArguments& g) { return g.narrow_c || g.dtype == accumulation_dtype(g.dtype); }

/// The tanh GELU of 16-bit types (in f32 its approximation of tanh is coarser than f32's rounding), rows of aux a
/// multiple of 8 elements apart, aux aligned.
inline bool has_fusable_epilogue(const GemmArguments& g) {
    return (g.epilogue == Epilogue::gelu_tanh || g.epilogue == Epilogue::d_gelu_tanh) && g.dtype != Dtype::f32 &&
           g.n % 8 == 0 && reinterpret_cast<uintptr_t>(g.aux) % 16 == 0;
}

}  // namespace ballast::cuda

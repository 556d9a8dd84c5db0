// Matrix products of the GPU backend: cuBLASLt (gemm_cuda.cpp) or, under the executor, the CPU's fixed-order GEMM
// (gemm_simt.cpp).
#pragma once

#include "kernels/context.h"
#include "kernels/gemm.h"

namespace ballast::cuda {

/// Products of f32, bf16 or fp16 operands (f64 under the executor), accumulated in f32 (f64). Queued. Without
/// epilogues.
void gemm(Context&, const GemmArguments&);

/// The same with an epilogue; false, and nothing is queued, where the library has none for it.
bool gemm_with_epilogue(Context&, const GemmArguments&);

/// What cuBLASLt's epilogues ask for: the tanh GELU, rows of aux a multiple of 8 elements apart, aux aligned. The
/// executor asks for the same, so that it walks both ways.
inline bool has_fusable_epilogue(const GemmArguments& g) {
    return (g.epilogue == Epilogue::gelu_tanh || g.epilogue == Epilogue::d_gelu_tanh) && g.n % 8 == 0 &&
           reinterpret_cast<uintptr_t>(g.aux) % 16 == 0;
}

}  // namespace ballast::cuda

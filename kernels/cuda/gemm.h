// Matrix products of the GPU backend: cuBLASLt (gemm_cuda.cpp) or, under the executor, the CPU's fixed-order GEMM
// (gemm_simt.cpp).
#pragma once

#include "kernels/context.h"
#include "kernels/gemm.h"

namespace ballast::cuda {

/// Products of f32, bf16 or fp16 operands (f64 under the executor), accumulated in f32 (f64). Queued.
void gemm(Context&, const GemmArguments&);

}  // namespace ballast::cuda

// Matrix products of the CPU kernels, divided into tasks by shape alone.
#pragma once

#include "kernels/context.h"
#include "kernels/gemm.h"

namespace ballast::cpu {

/// True when bf16 products run in bf16: Gemm::automatic on a processor where that is faster (Bf16Units). Otherwise
/// operands are first widened to f32.
bool native_bf16(const Context&);

/// `dtype` is f32, f64, or bf16 where native_bf16(). Uses oneDNN for f32 and bf16 under Gemm::automatic, else
/// gemm_reference.
void gemm(Context&, const GemmArguments&);

/// The same product computed by the calling thread alone, for tasks that use the result while it is in the cache. Its
/// bits may differ from those of gemm(), whose blocks have other shapes.
void gemm_on_this_thread(const Context&, const GemmArguments&);

/// Our own GEMM for f32 and f64. Every element is one chain of fused multiply-adds in the order of k, starting from C,
/// the bias or 0. The bits are the same on every processor.
void gemm_reference(Context&, const GemmArguments&);
void gemm_reference_on_this_thread(const GemmArguments&);

}  // namespace ballast::cpu

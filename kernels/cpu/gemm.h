// Matrix products of the CPU kernels, cut into tasks by shape alone.
#pragma once

#include "kernels/context.h"
#include "kernels/gemm.h"

namespace ballast::cpu {

/// True when bf16 products should be computed as such: Gemm::automatic on a processor where that is faster
/// (Bf16Units). Elsewhere operands are widened to f32 first.
bool native_bf16(const Context&);

/// `dtype` is f32, f64, or bf16 where native_bf16(). oneDNN for f32 and bf16 under Gemm::automatic, gemm_reference for all else.
void gemm(Context&, const GemmArguments&);

/// The same product, the same way, by the calling thread alone: for tasks that go on with the result while it is in the
/// cache. Its bits may differ from gemm()'s, whose blocks have other shapes.
void gemm_on_this_thread(const Context&, const GemmArguments&);

/// Ours, f32 and f64: every element is one chain of fused multiply-adds in the order of k, starting from C, the bias or
/// 0. The same bits on every processor.
void gemm_reference(Context&, const GemmArguments&);
void gemm_reference_on_this_thread(const GemmArguments&);

}  // namespace ballast::cpu

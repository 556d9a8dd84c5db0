// The vector units that the CPU kernels use. They are chosen at run time, the widest first.
#pragma once

#include <string>

namespace ballast {

/// From now on all contexts use only the units that every supported processor has (AVX2 on x86-64). Kernels give the
/// same bits on wider units; the golden losses are compared on both.
void use_baseline_simd();
/// True after use_baseline_simd().
bool uses_baseline_simd();

/// "AVX3", "AVX2", "NEON": the SIMD target of the kernels at the moment.
std::string simd_target_name();

}  // namespace ballast

// Which vector units the CPU kernels use. They are chosen at run time, the widest first.
#pragma once

#include <string>

namespace ballast {

/// Keeps to the units every supported processor has (AVX2 on x86-64) from now on, in all contexts. Kernels give the
/// same bits on wider ones; the golden losses are compared on both.
void use_baseline_simd();

/// "AVX3", "AVX2", "NEON": the target the kernels run on now.
std::string simd_target_name();

}  // namespace ballast

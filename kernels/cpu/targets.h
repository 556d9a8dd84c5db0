// The SIMD targets that the kernels are compiled for. Include before any Highway header.
#pragma once

#if defined(BALLAST_BASELINE_SIMD)
#define HWY_COMPILE_ONLY_STATIC  // what every processor has
#endif
#if defined(__x86_64__)
#define HWY_DISABLED_TARGETS (~(HWY_AVX2 | HWY_AVX3 | HWY_EMU128 | HWY_SCALAR))  // AVX2 and AVX-512
#define HWY_DISABLE_PCLMUL_AES  // not used, and not in x86-64-v3: without this AVX2 would not count as the baseline
#else
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)  // NEON (SVE has no arrays of vectors)
#endif

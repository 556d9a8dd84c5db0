// The asm statements of wgmma.cuh, which describes their effect. Operands of an asm statement are numbered, and N
// changes their number. So one macro generates the text for each N; it supports N = 8, 16, 32, 48, 64, 96, 128, 192 and
// 256.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

// Text and operands of the first so many accumulators.
#define SIMT_TEXT_4 "%0, %1, %2, %3"
#define SIMT_TEXT_8 SIMT_TEXT_4 ", %4, %5, %6, %7"
#define SIMT_TEXT_16 SIMT_TEXT_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define SIMT_TEXT_24 SIMT_TEXT_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define SIMT_TEXT_32 SIMT_TEXT_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define SIMT_TEXT_48 \
    SIMT_TEXT_32     \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define SIMT_TEXT_64 \
    SIMT_TEXT_48     \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SIMT_TEXT_96                                                                   \
    SIMT_TEXT_64                                                                       \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
    ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define SIMT_TEXT_128                                                                              \
    SIMT_TEXT_96                                                                                   \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
    ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SIMT_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SIMT_16(i) SIMT_4(i), SIMT_4(i + 4), SIMT_4(i + 8), SIMT_4(i + 12)
#define SIMT_DATA_4 SIMT_4(0)
#define SIMT_DATA_8 SIMT_4(0), SIMT_4(4)
#define SIMT_DATA_16 SIMT_16(0)
#define SIMT_DATA_24 SIMT_DATA_16, SIMT_4(16), SIMT_4(20)
#define SIMT_DATA_32 SIMT_DATA_16, SIMT_16(16)
#define SIMT_DATA_48 SIMT_DATA_32, SIMT_16(32)
#define SIMT_DATA_64 SIMT_DATA_48, SIMT_16(48)
#define SIMT_DATA_96 SIMT_DATA_64, SIMT_16(64), SIMT_16(80)
#define SIMT_DATA_128 SIMT_DATA_96, SIMT_16(96), SIMT_16(112)

// One N in one type; a, b, scale and majors are the numbered texts of the inputs that follow the accumulators.
#define SIMT_WGMMA_OF(type, n, registers, a, b, scale, majors)                                              \
    asm volatile("{\n.reg .pred accumulates;\nsetp.ne.b32 accumulates, " scale                              \
                 ", 0;\n"                                                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" SIMT_TEXT_##registers \
                 "}, " a ", " b ", accumulates, 1, 1, " majors ";\n}"                                       \
                 : SIMT_DATA_##registers                                                                    \
                 : SIMT_INPUTS)
#define SIMT_WGMMA(n, registers, a, b, scale, majors)                 \
    if constexpr (Registers == registers) {                           \
        if constexpr (std::is_same_v<T, __nv_bfloat16>)               \
            SIMT_WGMMA_OF("bf16", n, registers, a, b, scale, majors); \
        else                                                          \
            SIMT_WGMMA_OF("f16", n, registers, a, b, scale, majors);  \
    }

namespace ballast::simt::ptx::detail {

template <int Registers>
inline constexpr bool kHasWgmma =
    Registers == 4 || Registers == 8 || Registers == 16 || Registers == 24 || Registers == 32 || Registers == 48 ||
    Registers == 64 || Registers == 96 || Registers == 128;

template <class T, bool AIsMnMajor, bool BIsMnMajor, int Registers>
__device__ __forceinline__ void wgmma_shared(float (&d)[Registers], uint64_t a, uint64_t b, bool accumulate) {
    static_assert(kHasWgmma<Registers>, "add a line for this N");
#define SIMT_INPUTS "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int{AIsMnMajor}), "n"(int{BIsMnMajor})
    SIMT_WGMMA(8, 4, "%4", "%5", "%6", "%7, %8")
    SIMT_WGMMA(16, 8, "%8", "%9", "%10", "%11, %12")
    SIMT_WGMMA(32, 16, "%16", "%17", "%18", "%19, %20")
    SIMT_WGMMA(48, 24, "%24", "%25", "%26", "%27, %28")
    SIMT_WGMMA(64, 32, "%32", "%33", "%34", "%35, %36")
    SIMT_WGMMA(96, 48, "%48", "%49", "%50", "%51, %52")
    SIMT_WGMMA(128, 64, "%64", "%65", "%66", "%67, %68")
    SIMT_WGMMA(192, 96, "%96", "%97", "%98", "%99, %100")
    SIMT_WGMMA(256, 128, "%128", "%129", "%130", "%131, %132")
#undef SIMT_INPUTS
}

template <class T, bool BIsMnMajor, int Registers>
__device__ __forceinline__ void wgmma_registers(float (&d)[Registers], const uint32_t (&a)[4], uint64_t b,
                                                bool accumulate) {
    static_assert(kHasWgmma<Registers>, "add a line for this N");
#define SIMT_INPUTS \
    "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int{BIsMnMajor})
    SIMT_WGMMA(8, 4, "{%4, %5, %6, %7}", "%8", "%9", "%10")
    SIMT_WGMMA(16, 8, "{%8, %9, %10, %11}", "%12", "%13", "%14")
    SIMT_WGMMA(32, 16, "{%16, %17, %18, %19}", "%20", "%21", "%22")
    SIMT_WGMMA(48, 24, "{%24, %25, %26, %27}", "%28", "%29", "%30")
    SIMT_WGMMA(64, 32, "{%32, %33, %34, %35}", "%36", "%37", "%38")
    SIMT_WGMMA(96, 48, "{%48, %49, %50, %51}", "%52", "%53", "%54")
    SIMT_WGMMA(128, 64, "{%64, %65, %66, %67}", "%68", "%69", "%70")
    SIMT_WGMMA(192, 96, "{%96, %97, %98, %99}", "%100", "%101", "%102")
    SIMT_WGMMA(256, 128, "{%128, %129, %130, %131}", "%132", "%133", "%134")
#undef SIMT_INPUTS
}

}  // namespace ballast::simt::ptx::detail

#undef SIMT_WGMMA
#undef SIMT_WGMMA_OF
#undef SIMT_TEXT_4
#undef SIMT_DATA_4
#undef SIMT_TEXT_8
#undef SIMT_DATA_8
#undef SIMT_TEXT_16
#undef SIMT_DATA_16
#undef SIMT_TEXT_24
#undef SIMT_DATA_24
#undef SIMT_TEXT_32
#undef SIMT_DATA_32
#undef SIMT_TEXT_48
#undef SIMT_DATA_48
#undef SIMT_TEXT_64
#undef SIMT_DATA_64
#undef SIMT_TEXT_96
#undef SIMT_DATA_96
#undef SIMT_TEXT_128
#undef SIMT_DATA_128
#undef SIMT_4
#undef SIMT_16

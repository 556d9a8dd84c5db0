// The only header that a kernel includes. Under nvcc it gives short names to CUDA's features; under an ordinary
// compiler the executor in runtime/ plays the GPU (host.h). Kernels are written once and started by launch() only. PTX
// is allowed only in ptx.cuh and hopper.cuh.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define BALLAST_SIMT_HOST 0
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_NO_UNROLL _Pragma("unroll 1")
#define SIMT_PRAGMA(text) _Pragma(#text)
#define SIMT_UNROLL_BY(n) SIMT_PRAGMA(unroll n)
/// A static shared array: SIMT_SHARED(float, partials, [8][33]);
#define SIMT_SHARED(T, name, dims) __shared__ T name dims

namespace ballast::simt {
struct SharedBytes {
    size_t bytes = 0;
};
[[noreturn]] void throw_cuda_error(cudaError_t, const char* what);  // kernels/cuda/runtime_cuda.cpp
}  // namespace ballast::simt

#else

#include <tuple>

#include "kernels/simt/host.h"
#include "kernels/simt/queue.h"

#define BALLAST_SIMT_HOST 1
#define SIMT_UNROLL
#define SIMT_NO_UNROLL
#define SIMT_UNROLL_BY(n)
#define SIMT_SHARED(T, name, dims)                                                                \
    using name##_array = T dims;                                                                  \
    static const char name##_key = 0;                                                             \
    name##_array& name = *static_cast<name##_array*>(::ballast::simt::host::static_shared_memory( \
        &name##_key, sizeof(name##_array), alignof(name##_array) < 16 ? 16 : alignof(name##_array)))

#endif

namespace ballast::simt {

/// Starts kernel(args...) on `stream`; kernels are started in no other way. Arguments are converted to the kernel's
/// parameter types. Throws simt::Error (executor) or RunError (CUDA) when the launch is refused.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, SharedBytes shared, cudaStream_t stream,
            Arguments&&... args) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "launch: not the kernel's number of arguments");
#if BALLAST_SIMT_HOST
    static_cast<void>(stream);  // one queue; a launch is over when it returns, unless it is being recorded
    queue([=, parameters = std::tuple<Parameters...>(static_cast<Parameters>(args)...)] {
        auto call = [&] { std::apply(kernel, parameters); };
        host::launch(
            grid, block, shared, [](void* c) { (*static_cast<decltype(call)*>(c))(); }, &call);
    });
#else
    constexpr size_t kWithoutAsking = 48u << 10;
    if (shared.bytes > kWithoutAsking) {
        const cudaError_t error =
            cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared.bytes));
        if (error != cudaSuccess) throw_cuda_error(error, "shared memory of a kernel");
    }
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared.bytes;
    config.stream = stream;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...);
    if (error != cudaSuccess) throw_cuda_error(error, "launch of a kernel");
#endif
}

}  // namespace ballast::simt

// The description of a tensor for TMA, passed to kernels as `const __grid_constant__ TensorMap map`. The host makes it
// by make_tensor_map(), which has the same signature and the same checks for the executor and for CUDA.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "kernels/simt/options.h"
#include "kernels/simt/simt.cuh"

#if !BALLAST_SIMT_HOST
#include <cuda.h>
#endif

namespace ballast::simt {

/// The permutation of a tile's 16-byte chunks inside 8 rows of so many bytes, so that columns have no bank conflicts.
enum class Swizzle { none, bytes_32, bytes_64, bytes_128 };

/// Bytes of one row of the pattern; 16 without a swizzle.
__host__ __device__ constexpr unsigned swizzle_span(Swizzle swizzle) { return 16u << static_cast<unsigned>(swizzle); }
/// The alignment of a tile: eight rows of the pattern, and 128 for TMA.
__host__ __device__ constexpr unsigned tile_alignment(Swizzle swizzle) {
    return swizzle == Swizzle::none ? 128 : 8 * swizzle_span(swizzle);
}

enum class TensorElement { bf16, fp16, f32 };
constexpr unsigned element_bytes(TensorElement element) { return element == TensorElement::f32 ? 4 : 2; }

inline constexpr int kMaxTensorRank = 5;

/// A tensor in global memory and the box of it that one TMA operation moves; innermost dimension first. Elements of the
/// box outside the tensor are read as zero and not written. In shared memory the box is dense, then swizzled.
struct TensorLayout {
    const void* base = nullptr;                         ///< aligned to 16 bytes
    TensorElement element = TensorElement::bf16;        ///<
    int rank = 0;                                       ///< 2 to 5
    std::array<uint64_t, kMaxTensorRank> size{};        ///< in elements
    std::array<uint64_t, kMaxTensorRank - 1> stride{};  ///< bytes from one to the next along dimension 1, 2, …
    std::array<uint32_t, kMaxTensorRank> box{};         ///< in elements, 1 to 256
    Swizzle swizzle = Swizzle::none;                    ///< if any, a row of the box is exactly its span

    uint32_t row_bytes() const { return box[0] * element_bytes(element); }
    uint32_t rows() const {
        uint32_t product = 1;
        for (int i = 1; i < rank; ++i) product *= box[static_cast<size_t>(i)];
        return product;
    }
    /// The bytes that a load of one box completes on its mbarrier, also when a part of the box is outside the tensor.
    uint32_t box_bytes() const { return rows() * row_bytes(); }
};

/// Throws Error for a layout that the hardware would refuse.
inline void check(const TensorLayout& layout) {
    const auto require = [](bool condition, const std::string& what) {
        if (!condition) throw Error("tensor map: " + what);
    };
    require(layout.rank >= 2 && layout.rank <= kMaxTensorRank,
            "rank " + std::to_string(layout.rank) + " is not 2 to 5");
    require(layout.base != nullptr && reinterpret_cast<uintptr_t>(layout.base) % 16 == 0,
            "the base is not a 16-byte aligned address");
    for (size_t i = 0; i < static_cast<size_t>(layout.rank); ++i) {
        const std::string dimension = " of dimension " + std::to_string(i);
        require(layout.size[i] >= 1 && layout.size[i] <= uint64_t{1} << 32,
                "size " + std::to_string(layout.size[i]) + dimension + " is not 1 to 2^32");
        require(layout.box[i] >= 1 && layout.box[i] <= 256,
                "box " + std::to_string(layout.box[i]) + dimension + " is not 1 to 256");
        if (i == 0) continue;
        const uint64_t stride = layout.stride[i - 1];
        require(stride % 16 == 0 && stride >= 16 && stride < uint64_t{1} << 40,
                "stride " + std::to_string(stride) + dimension + " is not a multiple of 16 below 2^40 bytes");
    }
    const std::string row = "a row of the box has " + std::to_string(layout.row_bytes()) + " bytes, ";
    require(layout.row_bytes() % 16 == 0, row + "not a multiple of 16");
    require(layout.swizzle == Swizzle::none || layout.row_bytes() == swizzle_span(layout.swizzle),
            row + "the swizzle's rows " + std::to_string(swizzle_span(layout.swizzle)));
}

#if BALLAST_SIMT_HOST

/// Of CUtensorMap's size and alignment; holds the layout itself.
struct alignas(64) TensorMap {
    unsigned char opaque[128];
};
static_assert(sizeof(TensorLayout) <= sizeof(TensorMap));

inline TensorLayout layout_of(const TensorMap& map) {
    TensorLayout layout;
    std::memcpy(static_cast<void*>(&layout), map.opaque, sizeof layout);
    return layout;
}

inline TensorMap make_tensor_map(const TensorLayout& layout) {
    check(layout);
    TensorMap map{};
    std::memcpy(map.opaque, &layout, sizeof layout);
    return map;
}

#else

using TensorMap = CUtensorMap;

/// The driver's encoder is looked up through the runtime, so that nothing links libcuda.
inline TensorMap make_tensor_map(const TensorLayout& layout) {
    check(layout);
    static const auto encode = [] {
        void* function = nullptr;
        cudaDriverEntryPointQueryResult found{};
        const cudaError_t error =
            cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
        if (error != cudaSuccess) throw_cuda_error(error, "cuTensorMapEncodeTiled");
        if (found != cudaDriverEntryPointSuccess) throw Error("tensor map: the driver has no cuTensorMapEncodeTiled");
        return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
    }();
    constexpr CUtensorMapDataType kTypes[] = {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                                              CU_TENSOR_MAP_DATA_TYPE_FLOAT32};
    constexpr CUtensorMapSwizzle kSwizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                                                CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
    constexpr cuuint32_t kEveryElement[kMaxTensorRank] = {1, 1, 1, 1, 1};
    TensorMap map;
    const CUresult result =
        encode(&map, kTypes[static_cast<int>(layout.element)], static_cast<cuuint32_t>(layout.rank),
               const_cast<void*>(layout.base), layout.size.data(), layout.stride.data(), layout.box.data(),
               kEveryElement, CU_TENSOR_MAP_INTERLEAVE_NONE, kSwizzles[static_cast<int>(layout.swizzle)],
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS)
        throw Error("tensor map: cuTensorMapEncodeTiled says CUresult " + std::to_string(static_cast<int>(result)));
    return map;
}

#endif

}  // namespace ballast::simt

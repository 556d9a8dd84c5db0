// The state of a context on CUDA.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>
#include <optional>

#include "kernels/cuda/runtime.h"
#include "kernels/gemm.h"

namespace ballast::cuda {

/// Everything that determines a product's algorithm.
struct GemmShape {
    Dtype dtype, c_dtype;
    int64_t m, n, k, a_stride, b_stride;
    bool a_transposed, b_transposed, accumulate, bias;
    Epilogue epilogue;
    uint32_t alignment;  ///< of every operand's address, in bytes

    auto operator<=>(const GemmShape&) const = default;
};

/// Selects the device of use_device() for the calling thread. Cheap when it is already selected.
void enter_device();

class CudaState : public GpuState {
  public:
    static constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

    explicit CudaState(bool products);
    ~CudaState() override;
    CudaState(const CudaState&) = delete;
    CudaState& operator=(const CudaState&) = delete;

    GpuStream stream() const override {
        enter_device();  // the next work may be queued by any thread
        return stream_;
    }
    void queue_wait_for(GpuState& other) override;
    cublasLtHandle_t cublas() const { return cublas_; }
    void* workspace() const { return workspace_; }
    /// Chosen once for each shape; empty when cuBLASLt has none.
    using Algorithm = std::optional<cublasLtMatmulAlgo_t>;
    std::map<GemmShape, Algorithm>& algorithms() { return algorithms_; }

  private:
    GpuStream stream_ = nullptr;
    cudaEvent_t so_far_ = nullptr;  ///< what was queued until then, for other streams to wait for
    cublasLtHandle_t cublas_ = nullptr;
    void* workspace_ = nullptr;
    std::map<GemmShape, Algorithm> algorithms_;
};

}  // namespace ballast::cuda

// Matrix products by cuBLASLt. The library is column-major: our row-major C[m × n] = A B is its C^T[n × m] = B^T A^T.
// So its first operand is our B, and our bias runs down its columns.
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <bit>

#include "base/error.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/state_cuda.h"

namespace ballast::simt {
[[noreturn]] void throw_cuda_error(cudaError_t error, const char* what);
}

namespace ballast::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
    if (status != CUBLAS_STATUS_SUCCESS)
        throw RunError(fmt::format("cuBLASLt: {} failed: {}", what, cublasLtGetStatusString(status)));
}

cudaDataType_t cuda_type(Dtype dtype) {
    switch (dtype) {
        case Dtype::f32: return CUDA_R_32F;
        case Dtype::bf16: return CUDA_R_16BF;
        case Dtype::f16: return CUDA_R_16F;
        default: break;
    }
    require(false, "cuBLASLt's products are f32, bf16 or fp16 here");
    return CUDA_R_32F;
}

/// cuBLASLt's objects, each destroyed by its own function.
template <class Handle, cublasStatus_t (*destroy)(Handle)>
class Owned {
  public:
    Owned() = default;
    ~Owned() {
        if (handle_ != nullptr) destroy(handle_);
    }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    Handle* put() { return &handle_; }
    Handle get() const { return handle_; }

  private:
    Handle handle_ = nullptr;
};
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// One product as cuBLASLt describes it.
class Product {
  public:
    explicit Product(const GemmArguments& g) : shape_(shape_of(g)) {
        check(cublasLtMatmulDescCreate(description_.put(), CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
        set(CUBLASLT_MATMUL_DESC_TRANSA, shape_.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(CUBLASLT_MATMUL_DESC_TRANSB, shape_.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, cublas_epilogue(shape_));
        if (shape_.bias) {
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(g.dtype));
        }
        if (shape_.epilogue != Epilogue::none) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, g.aux);  // the heuristic looks at its alignment
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, g.n);
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, cuda_type(g.aux_dtype));
        }
        lay_out(first_, g.dtype, g.n, g.k, shape_.b_transposed, shape_.b_stride);
        lay_out(second_, g.dtype, g.k, g.m, shape_.a_transposed, shape_.a_stride);
        check(cublasLtMatrixLayoutCreate(result_.put(), cuda_type(shape_.c_dtype), static_cast<uint64_t>(g.n),
                                         static_cast<uint64_t>(g.m), g.n),
              "describing a matrix");
    }

    /// False where cuBLASLt has no algorithm.
    bool run(CudaState& state, const GemmArguments& g) {
        const CudaState::Algorithm& chosen = algorithm(state);
        if (!chosen) return false;
        const float one = 1, beta = g.accumulate ? 1 : 0;
        check(cublasLtMatmul(state.cublas(), description_.get(), &one, g.b.data, first_.get(), g.a.data, second_.get(),
                             &beta, g.c, result_.get(), g.c, result_.get(), &*chosen, state.workspace(),
                             CudaState::kWorkspaceBytes, state.stream()),
              "a product");
        return true;
    }

  private:
    static GemmShape shape_of(const GemmArguments& g) {
        const bool a_transposed = g.a.column != 1, b_transposed = g.b.column != 1;
        return {g.dtype,
                g.narrow_c ? g.dtype : Dtype::f32,
                g.m,
                g.n,
                g.k,
                a_transposed ? g.a.column : std::max(g.a.row, g.k),
                b_transposed ? g.b.column : std::max(g.b.row, g.n),
                a_transposed,
                b_transposed,
                g.accumulate,
                g.bias != nullptr,
                g.epilogue,
                alignment_of(g)};
    }

    /// What the operands' addresses are all multiples of, at most 256, which cuBLASLt takes for granted if not told.
    static uint32_t alignment_of(const GemmArguments& g) {
        uintptr_t bits = 256;
        for (const void* operand :
             {g.a.data, g.b.data, static_cast<const void*>(g.c), g.bias, static_cast<const void*>(g.aux)})
            bits |= reinterpret_cast<uintptr_t>(operand);
        return uint32_t{1} << std::countr_zero(bits);
    }

    /// Bias gradients are not among them: BGRAD overwrites in the result's type, ours accumulate in f32
    /// (column_sums.cuh).
    static cublasLtEpilogue_t cublas_epilogue(const GemmShape& shape) {
        switch (shape.epilogue) {
            case Epilogue::gelu_tanh: return shape.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
            case Epilogue::d_gelu_tanh: return CUBLASLT_EPILOGUE_DGELU;
            default: return shape.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
        }
    }

    template <class Value>
    void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
        check(cublasLtMatmulDescSetAttribute(description_.get(), attribute, &value, sizeof value),
              "describing a product");
    }

    /// An operand of rows × columns in cuBLASLt's eyes, which it reads as stored or transposed.
    static void lay_out(Layout& layout, Dtype dtype, int64_t rows, int64_t columns, bool transposed, int64_t stride) {
        check(cublasLtMatrixLayoutCreate(layout.put(), cuda_type(dtype),
                                         static_cast<uint64_t>(transposed ? columns : rows),
                                         static_cast<uint64_t>(transposed ? rows : columns), stride),
              "describing a matrix");
    }

    const CudaState::Algorithm& algorithm(CudaState& state) {
        if (const auto known = state.algorithms().find(shape_); known != state.algorithms().end()) return known->second;
        Preference preference;
        check(cublasLtMatmulPreferenceCreate(preference.put()), "choosing an algorithm");
        const size_t workspace = CudaState::kWorkspaceBytes;
        check(cublasLtMatmulPreferenceSetAttribute(preference.get(), CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                   &workspace, sizeof workspace),
              "choosing an algorithm");
        // Partial products that are added with atomics would give other bits in every run; added in the type of a
        // narrow result they would lose bits, and in fp16 overflow.
        const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        check(cublasLtMatmulPreferenceSetAttribute(preference.get(), CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                   &reductions, sizeof reductions),
              "choosing an algorithm");
        for (const auto attribute :
             {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &shape_.alignment,
                                                       sizeof shape_.alignment),
                  "choosing an algorithm");
        cublasLtMatmulHeuristicResult_t found{};
        int count = 0;
        const cublasStatus_t status =
            cublasLtMatmulAlgoGetHeuristic(state.cublas(), description_.get(), first_.get(), second_.get(),
                                           result_.get(), result_.get(), preference.get(), 1, &found, &count);
        const bool exists = status == CUBLAS_STATUS_SUCCESS && count > 0 && found.state == CUBLAS_STATUS_SUCCESS;
        return state.algorithms()
            .emplace(shape_, exists ? CudaState::Algorithm(found.algo) : std::nullopt)
            .first->second;
    }

    GemmShape shape_;
    Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> description_;
    Layout first_, second_, result_;
};

}  // namespace

CudaState::CudaState(bool products) {
    enter_device();
    if (const cudaError_t error = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); error != cudaSuccess)
        simt::throw_cuda_error(error, "making a stream");
    if (const cudaError_t error = cudaEventCreateWithFlags(&so_far_, cudaEventDisableTiming); error != cudaSuccess)
        simt::throw_cuda_error(error, "making an event");
    if (!products) return;
    check(cublasLtCreate(&cublas_), "starting");
    workspace_ = allocate(kWorkspaceBytes);
}

CudaState::~CudaState() {
    release(workspace_);
    if (cublas_ != nullptr) cublasLtDestroy(cublas_);
    if (so_far_ != nullptr) cudaEventDestroy(so_far_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void CudaState::queue_wait_for(GpuState& other) {
    const auto& before = static_cast<CudaState&>(other);
    cudaError_t error = cudaEventRecord(before.so_far_, before.stream());
    if (error == cudaSuccess) error = cudaStreamWaitEvent(stream(), before.so_far_, 0);
    if (error != cudaSuccess) simt::throw_cuda_error(error, "letting a stream wait");
}

bool library_product(Context& context, const GemmArguments& g) {
    return Product(g).run(static_cast<CudaState&>(context.gpu()), g);
}

}  // namespace ballast::cuda

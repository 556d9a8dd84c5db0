#include "tests/simt/nvidia_types.h"

#if defined(BALLAST_HAVE_CUDA_HEADERS)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_functions.h>

#include "tests/simt/type_operations-inl.h"

namespace ballast::test {
const CudaTypes* nvidia_types() {
    static const CudaTypes types = tabulate_types();
    return &types;
}
}  // namespace ballast::test

#else

namespace ballast::test {
const CudaTypes* nvidia_types() { return nullptr; }
}  // namespace ballast::test

#endif

// Two products under way, as they should be; with TOUCHED their accumulators are changed in between, so that ptxas has
// to wait for the first before the second.
#include "kernels/simt/wgmma.cuh"

using namespace ballast::simt;

__global__ void __launch_bounds__(128) attention_serialised_kernel(float* x, uint64_t a, uint64_t b) {
    float d[32];
    for (int i = 0; i < 32; ++i) d[i] = x[i * 128 + threadIdx.x];
    ptx::pin_registers(d);
    ptx::wgmma_fence();
    ptx::wgmma<__nv_bfloat16>(d, a, b, true);
#ifdef TOUCHED
    d[0] += 1;
#endif
    ptx::wgmma<__nv_bfloat16>(d, a, b, true);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin_registers(d);
    for (int i = 0; i < 32; ++i) x[i * 128 + threadIdx.x] = d[i];
}

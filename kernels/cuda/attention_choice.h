// The default choice of attention kernels: those with TMA and wgmma, where they exist and give correct results.
#pragma once

#include "kernels/context.h"

namespace ballast::cuda {

/// The largest relative difference (norm of the difference divided by the norm) between the results of wgmma and
/// mma.sync, over out, LSE' and every gradient of two small cases on `device`, with head dims 64 and 128. NaN when a
/// result contains NaN. Waits for the GPU.
double wgmma_difference(Device device);

/// True when `automatic` means wgmma: on a GPU of sm_90a, when wgmma_difference() is as small as two roundings to bf16.
/// Tested once per process, at the first call, and logged. The executor uses mma.sync, which it runs in less time.
bool prefers_wgmma(Device device);

}  // namespace ballast::cuda

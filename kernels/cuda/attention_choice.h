// Which kernels attention runs on when nobody says: those with TMA and wgmma, where they exist and are right.
#pragma once

#include "kernels/context.h"

namespace ballast::cuda {

/// The largest relative difference (norm of the difference over the norm) between wgmma's results and mma.sync's, over
/// out, LSE' and every gradient of two small cases of `device`, head dims 64 and 128; NaN where one has a NaN. Waits.
double wgmma_difference(Device device);

/// Whether `automatic` means wgmma: on a GPU of sm_90a, when wgmma_difference() is that of two roundings to bf16. Found
/// out once a process, at the first call, and logged. The executor stays with mma.sync, which it runs in less time.
bool prefers_wgmma(Device device);

}  // namespace ballast::cuda

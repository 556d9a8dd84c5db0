// The GPU versions of kernels/ops.h. They queue work on the context's stream and return.
#pragma once

#include "kernels/ops.h"

namespace ballast::cuda {
#include "kernels/ops_of_device-inl.h"
}  // namespace ballast::cuda

// The CPU's implementations of kernels/ops.h.
#pragma once

#include "kernels/ops.h"

namespace ballast::cpu {
#include "kernels/ops_of_device-inl.h"
}  // namespace ballast::cpu

// Names for phases on a profiler's time line (NVTX; no effect without CUDA).
#pragma once

#include "kernels/context.h"
#include "kernels/cuda/runtime.h"

namespace ballast {

/// Work that is queued during the object's life belongs to the phase.
class Phase {
  public:
    Phase(const Context& context, const char* name) : on_gpu_(context.device() != Device::cpu) {
        if (on_gpu_) cuda::push_range(name);
    }
    ~Phase() {
        if (on_gpu_) cuda::pop_range();
    }
    Phase(const Phase&) = delete;
    Phase& operator=(const Phase&) = delete;

  private:
    bool on_gpu_;
};

}  // namespace ballast

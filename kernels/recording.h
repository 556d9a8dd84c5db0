// Records repeated queued work, such as a training step, and replays it as one launch.
#pragma once

#include <functional>
#include <memory>

#include "kernels/context.h"

namespace ballast {

namespace cuda {
class Graph;
}

/// On CUDA the recording is a graph: the host pays for one launch in place of a thousand. The work must be the same
/// every time, with the same addresses and shapes. Values that differ between runs must be read from device memory or
/// from a HostBuffer. The work may only queue: reading back and allocating are errors while it is recorded.
///
/// The first run() calls the work directly, so that memory grows and libraries load. The second run() records it; later
/// ones replay the recording. The work is recorded again when the scratch memory has moved since, or when other memory
/// was replaced (Context::memory_was_replaced). On the CPU every run() calls the work.
class Recording {
  public:
    /// `record` false: every run() calls the work directly, for debugging.
    Recording(Context& context, std::function<void()> work, bool record = true);
    ~Recording();

    /// True when run() can replay on this device. Then it pays to give the work a shape that repeats.
    static bool replays(const Context& context) { return context.device() != Device::cpu; }

    void run();

  private:
    Context& context_;
    std::function<void()> work_;
    bool record_, has_run_ = false;
    const void* scratch_ = nullptr;  // address of the scratch memory when the graph was made
    int64_t replacements_ = 0;       // the context's count of replacements at that time
    std::unique_ptr<cuda::Graph> graph_;
};

}  // namespace ballast

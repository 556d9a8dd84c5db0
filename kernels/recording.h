// Queued work that repeats, such as a training step, as one launch.
#pragma once

#include <functional>
#include <memory>

#include "kernels/context.h"

namespace ballast {

namespace cuda {
class Graph;
}

/// On CUDA a graph: the host pays for one launch where there are a thousand. The work must repeat itself exactly, with
/// the same addresses and shapes; what differs from run to run it reads from device memory or from a HostBuffer. It
/// only queues: reading back and allocating are errors while it is recorded.
///
/// The first run() calls the work as it is, so that memory grows and libraries load what they need; the second records
/// it; later ones replay. It is recorded anew when the scratch memory has moved since, or other memory was replaced
/// (Context::memory_was_replaced). On the CPU every run() calls it.
class Recording {
  public:
    /// `record` false: every run() calls the work, as a debugger would have it.
    Recording(Context& context, std::function<void()> work, bool record = true);
    ~Recording();

    /// Whether it ever replays, so that it pays to give work a shape that repeats.
    static bool replays(const Context& context) { return context.device() != Device::cpu; }

    void run();

  private:
    Context& context_;
    std::function<void()> work_;
    bool record_, has_run_ = false;
    const void* scratch_ = nullptr;  // where the scratch memory was when the graph was made
    int64_t replacements_ = 0;       // the context's at that time
    std::unique_ptr<cuda::Graph> graph_;
};

}  // namespace ballast

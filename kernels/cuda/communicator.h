// A GPU's own way from rank to rank. A build has one implementation: communicator_nccl.cpp (CUDA with MPI),
// communicator_simt.cpp (the executor's stand-in), or communicator_none.cpp.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/communicator.h"
#include "kernels/context.h"

namespace ballast::cuda {

/// Device memory for, or from, one other rank.
struct DeviceMessage {
    int rank;
    void* data;
    size_t bytes;
};

class GpuCommunicator {
  public:
    virtual ~GpuCommunicator() = default;

    /// Queued, and may be recorded: sends and receives, all at once, as Communicator::exchange(). Messages of no bytes
    /// are left out. What is queued on several streams must be ordered by GpuState::queue_wait_for().
    virtual void queue_exchange(std::span<const DeviceMessage> outgoing, std::span<const DeviceMessage> incoming,
                                GpuStream stream) = 0;
};

/// Collective; `ranks` has to outlive it. UserError when two ranks share a GPU, which NCCL does not take.
std::unique_ptr<GpuCommunicator> make_gpu_communicator(Communicator& ranks);

/// "NCCL 2.28.3"; empty where the build has none.
std::string gpu_communicator_version();

}  // namespace ballast::cuda

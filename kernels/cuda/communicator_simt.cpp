// The executor's stand-in for NCCL: an exchange is a piece of queued work, so a recorded step does it again at every
// replay, as a graph does. The bytes travel by the ranks' own communicator, MPI's in a program, threads' in tests.
#include <vector>

#include "kernels/cuda/communicator.h"
#include "kernels/simt/device_memory.h"
#include "kernels/simt/queue.h"

namespace ballast::cuda {
namespace {

class SimtCommunicator : public GpuCommunicator {
  public:
    explicit SimtCommunicator(Communicator& ranks) : ranks_(ranks) {}

    void queue_exchange(std::span<const DeviceMessage> outgoing, std::span<const DeviceMessage> incoming,
                        GpuStream) override {
        std::vector<OutgoingBytes> out;
        std::vector<IncomingBytes> in;
        for (const DeviceMessage& message : outgoing)
            if (message.bytes > 0)
                out.push_back({message.rank, {static_cast<const std::byte*>(message.data), message.bytes}});
        for (const DeviceMessage& message : incoming)
            if (message.bytes > 0) in.push_back({message.rank, {static_cast<std::byte*>(message.data), message.bytes}});
        simt::queue([&ranks = ranks_, out = std::move(out), in = std::move(in)] {
            const simt::DeviceAccess access;
            ranks.exchange(out, in);
        });
    }

  private:
    Communicator& ranks_;
};

}  // namespace

std::unique_ptr<GpuCommunicator> make_gpu_communicator(Communicator& ranks) {
    return std::make_unique<SimtCommunicator>(ranks);
}
std::string gpu_communicator_version() { return ""; }

}  // namespace ballast::cuda

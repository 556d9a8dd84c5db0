#include <cuda_runtime.h>
#include <fmt/format.h>
#include <nccl.h>

#include <array>
#include <cstring>
#include <exception>
#include <vector>

#include "base/error.h"
#include "kernels/cuda/communicator.h"
#include "kernels/cuda/state_cuda.h"

namespace ballast::cuda {
namespace {

void check(ncclResult_t result, const char* what) {
    if (result != ncclSuccess)
        throw RunError(fmt::format("NCCL: {} failed: {}; {} (NCCL_DEBUG=INFO tells more)", what,
                                   ncclGetErrorString(result), ncclGetLastError(nullptr)));
}

/// A GPU's, or a MIG slice's, identity over all machines.
using GpuIdentity = std::array<std::byte, sizeof(cudaUUID_t)>;

GpuIdentity own_identity() {
    enter_device();
    int device = 0;
    cudaDeviceProp properties{};
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess)
        throw RunError(fmt::format("CUDA: asking for the GPU failed: {}", cudaGetErrorString(error)));
    GpuIdentity identity;
    std::memcpy(identity.data(), &properties.uuid, identity.size());
    return identity;
}

/// UserError on every rank alike.
void require_gpus_of_their_own(Communicator& ranks) {
    std::vector<GpuIdentity> all(static_cast<size_t>(ranks.size()));
    const GpuIdentity mine = all[static_cast<size_t>(ranks.rank())] = own_identity();
    std::vector<OutgoingBytes> out;
    std::vector<IncomingBytes> in;
    for (int r = 0; r < ranks.size(); ++r) {
        if (r == ranks.rank()) continue;
        out.push_back({r, mine});
        in.push_back({r, all[static_cast<size_t>(r)]});
    }
    ranks.exchange(out, in);
    for (size_t second = 1; second < all.size(); ++second)
        for (size_t first = 0; first < second; ++first)
            if (all[first] == all[second])
                throw UserError(
                    fmt::format("ranks {} and {} have the same GPU, and NCCL takes one GPU a rank; start as many ranks "
                                "on a machine "
                                "as it has GPUs, without a number in --backend",
                                first, second));
}

class NcclCommunicator : public GpuCommunicator {
  public:
    explicit NcclCommunicator(Communicator& ranks) {
        require_gpus_of_their_own(ranks);
        ncclUniqueId id{};
        if (ranks.is_first()) check(ncclGetUniqueId(&id), "making an id");
        ranks.broadcast(std::as_writable_bytes(std::span(&id, 1)));
        check(ncclCommInitRank(&communicator_, ranks.size(), id, ranks.rank()), "connecting the ranks");
    }
    ~NcclCommunicator() override {
        // Ending in peace waits for the others, which may be waiting for this rank.
        if (std::uncaught_exceptions() > 0)
            ncclCommAbort(communicator_);
        else
            ncclCommDestroy(communicator_);
    }
    NcclCommunicator(const NcclCommunicator&) = delete;
    NcclCommunicator& operator=(const NcclCommunicator&) = delete;

    void queue_exchange(std::span<const DeviceMessage> outgoing, std::span<const DeviceMessage> incoming,
                        GpuStream stream) override {
        check(ncclGroupStart(), "beginning an exchange");
        for (const DeviceMessage& message : outgoing)
            if (message.bytes > 0)
                check(ncclSend(message.data, message.bytes, ncclUint8, message.rank, communicator_, stream), "a send");
        for (const DeviceMessage& message : incoming)
            if (message.bytes > 0)
                check(ncclRecv(message.data, message.bytes, ncclUint8, message.rank, communicator_, stream),
                      "a receive");
        check(ncclGroupEnd(), "an exchange");
    }

  private:
    ncclComm_t communicator_ = nullptr;
};

}  // namespace

std::unique_ptr<GpuCommunicator> make_gpu_communicator(Communicator& ranks) {
    return std::make_unique<NcclCommunicator>(ranks);
}

std::string gpu_communicator_version() {
    int version = 0;
    check(ncclGetVersion(&version), "asking for the version");
    return fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace ballast::cuda

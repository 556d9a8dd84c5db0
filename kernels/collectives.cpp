#include "kernels/collectives.h"

#include "base/error.h"
#include "kernels/cuda/communicator.h"

namespace ballast {
namespace {

std::span<std::byte> bytes_of(const Tensor& x) {
    require(x.is_contiguous(), "ranks exchange contiguous tensors");
    return {static_cast<std::byte*>(x.data), x.bytes()};
}

void exchange_on_gpu(Context& context, std::span<const TensorMessage> outgoing,
                     std::span<const TensorMessage> incoming) {
    const auto messages = [](std::span<const TensorMessage> tensors) {
        std::vector<cuda::DeviceMessage> out;
        for (const TensorMessage& message : tensors) {
            const std::span<std::byte> bytes = bytes_of(message.values);
            out.push_back({message.rank, bytes.data(), bytes.size()});
        }
        return out;
    };
    context.gpu_communicator().queue_exchange(messages(outgoing), messages(incoming), context.stream());
}

}  // namespace

void exchange(Context& context, Communicator& ranks, std::span<const TensorMessage> outgoing,
              std::span<const TensorMessage> incoming) {
    if (outgoing.empty() && incoming.empty()) return;
    if (context.device() != Device::cpu) return exchange_on_gpu(context, outgoing, incoming);
    std::vector<OutgoingBytes> out;
    std::vector<IncomingBytes> in;
    for (const TensorMessage& message : outgoing) out.push_back({message.rank, bytes_of(message.values)});
    for (const TensorMessage& message : incoming) in.push_back({message.rank, bytes_of(message.values)});
    ranks.exchange(out, in);
}

void all_gather(Context& context, Communicator& ranks, const Tensor& x, std::span<const int64_t> bounds) {
    if (ranks.size() == 1) return;
    require(static_cast<int>(bounds.size()) == ranks.size() + 1 && bounds.back() == x.numel(), "bounds of other ranks");
    const auto part = [&](int rank) {
        const auto r = static_cast<size_t>(rank);
        return x.slice(0, bounds[r], bounds[r + 1]);
    };
    std::vector<TensorMessage> out, in;
    for (int r = 0; r < ranks.size(); ++r) {
        if (r == ranks.rank()) continue;
        out.push_back({r, part(ranks.rank())});
        in.push_back({r, part(r)});
    }
    exchange(context, ranks, out, in);
}

}  // namespace ballast

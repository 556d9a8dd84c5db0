// Collectives on tensors, for the ranks of one run. All ranks must call them in the same order and with the same
// bounds. On a GPU they are queued and may be recorded; the context must be connected (Context::connect()).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/communicator.h"
#include "kernels/context.h"

namespace ballast {

/// Elements [bounds[r], bounds[r + 1]) of x [bounds.back()] go from rank r to all others.
void all_gather(Context& context, Communicator& ranks, const Tensor& x, std::span<const int64_t> bounds);

/// A 1-D tensor to or from another rank.
struct TensorMessage {
    int rank;
    Tensor values;
};
/// As Communicator::exchange().
void exchange(Context& context, Communicator& ranks, std::span<const TensorMessage> outgoing,
              std::span<const TensorMessage> incoming);

}  // namespace ballast

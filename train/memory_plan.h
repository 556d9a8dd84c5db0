// The memory of a run, known and printed before anything is allocated.
#pragma once

#include <string>
#include <vector>

#include "model/transformer.h"
#include "train/distribution.h"

namespace ballast::train {

struct MemoryPlan {
    size_t master_weights = 0, compute_weights = 0, gradients = 0, moments = 0, activations = 0, scratch = 0;
    size_t received_gradients = 0;  // gradients that other ranks send
    size_t tokens = 0;              // of a step's samples
    size_t validation = 0;          // activations of the validation pass
    size_t sampling = 0;            // the cache and activations for writing sample texts
    size_t snapshot = 0;            // the state of a checkpoint while it is written; always in the host's memory
    size_t sample_order = 0;        // of the training data; always in the host's memory; data::Sampler::bytes()

    /// The sum of the parts on the device.
    size_t total(Device device) const {
        return master_weights + compute_weights + gradients + received_gradients + moments + activations + scratch +
               tokens + validation + sampling + (device == Device::cuda ? 0 : snapshot + sample_order);
    }
    /// Name and bytes of each part, for tables.
    std::vector<std::pair<std::string, size_t>> parts() const;
};

/// The plan of one rank without the sample order, which depends on the corpus. UserError when the device cannot compute
/// in train.dtype.
MemoryPlan plan_memory(const Context& context, const RunConfig& config, const Distribution& distribution);

/// The bytes that the other ranks on this machine take of the memory that `plan`, this rank's, is of. Where rank 0 is
/// one of them, only it knows of all: it has more to keep. 0 for GPUs, as each rank has its own.
size_t memory_of_neighbours(const Context& context, const RunConfig& config, const Distribution& distribution,
                            const MemoryPlan& plan);

/// UserError with the plan's numbers and the settings to lower when the plan exceeds the device's `available` bytes,
/// of which the other ranks on this machine take `neighbours`.
void require_fit(const MemoryPlan& plan, Device device, size_t available, size_t neighbours = 0);

/// "1.25 GiB", "384.0 MiB".
std::string format_bytes(size_t bytes);

}  // namespace ballast::train

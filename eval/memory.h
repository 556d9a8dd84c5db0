// The memory that measurements take beside a model's weights, known before any of it is taken.
#pragma once

#include <optional>

#include "infer/cache_sizes.h"
#include "model/transformer.h"

namespace ballast::eval {

/// Parts with a label each. Without a GPU both lists take of the same memory.
struct MeasurementMemory {
    infer::MemoryList device;  // tensors and the ops' scratch
    infer::MemoryList host;    // what is read back from the device, and what is kept of it

    size_t total() const { return infer::total_bytes(device) + infer::total_bytes(host); }
};

/// Of two measurements that follow one another: the one that takes more.
MeasurementMemory larger_of(MeasurementMemory a, MeasurementMemory b);

/// A forward pass over `batch` sequences of `length` positions, of a model whose matrices are stored as `matrices`
/// (empty: as `dtype`).
MeasurementMemory pass_memory(const Context& context, const model::ModelConfig& config, Dtype dtype, int64_t batch,
                              int64_t length, std::optional<Dtype> matrices = std::nullopt);

/// Bytes of `count` maps f32 [length, length]. No more than 2^58, which is more than any machine has, so that a sum of
/// some of them stays right however long the sequences are.
size_t map_bytes(int64_t count, int64_t length);

}  // namespace ballast::eval

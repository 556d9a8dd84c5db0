// The gradients of a step: one flat array for each of the rank's lanes, and their sum over all lanes.
#pragma once

#include <vector>

#include "model/weights.h"
#include "train/distribution.h"

namespace ballast::train {

class GradientSum {
  public:
    GradientSum(Context& context, const model::ParameterTable& table, Dtype dtype, const Distribution& distribution,
                const Shards& shards);

    /// Memory of the arrays, and of what comes from other ranks.
    static size_t array_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution);
    static size_t received_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution);

    /// Of the rank's lane, counted from its first.
    const model::FlatArray& of_lane(int64_t lane) const { return lanes_[static_cast<size_t>(lane)]; }
    /// Sets all to zero.
    void queue_clear();
    /// Adds up the lanes of all ranks in the tree's order (train/lanes.h): afterwards the rank's shard of of_lane(0)
    /// holds the sum, and what lies outside it means nothing.
    void queue_sum();

  private:
    void add_own_lanes();
    void exchange_nodes();

    Context& context_;
    const Distribution& distribution_;
    const Shards& shards_;
    std::vector<model::FlatArray> lanes_;
    /// The tree's nodes that ranks add up by themselves, and which rank does.
    std::vector<Range> nodes_;
    std::vector<int> owners_;
    DeviceBuffer received_buffer_;
    std::vector<Tensor> received_;  // the rank's shard of each node; of its own nodes a view of their array
};

}  // namespace ballast::train

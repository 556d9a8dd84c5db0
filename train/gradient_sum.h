// The gradients of a step: one flat array per lane of this rank, and the sum over all lanes.
//
// With train.reduction_dtype = "bf16" every node of the tree over lanes is rounded to bf16, single lanes and the root
// included. A node is then sent exactly in half the bytes, whichever rank has it. So the bits do not depend on the
// number of ranks.
#pragma once

#include <vector>

#include "model/weights.h"
#include "train/distribution.h"
#include "train/timeline.h"

namespace ballast::train {

class GradientSum {
  public:
    GradientSum(Context& context, const model::ParameterTable& table, Dtype dtype, const Distribution& distribution,
                const Shards& shards);

    /// The memory of the arrays and of the buffers for receiving from other ranks and, with bf16, for sending to them.
    /// Buckets are reduced one after another, so the buffers have the size of the largest bucket.
    static size_t array_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution);
    static size_t received_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution);

    /// The array of one of the rank's lanes, counted from its first lane.
    const model::FlatArray& lane_gradients(int64_t lane) const { return lanes_[static_cast<size_t>(lane)]; }
    /// Sets all arrays to zero.
    void queue_clear();
    /// Sums one bucket over the lanes of all ranks, in the tree's order (train/lanes.h). Afterwards lane_gradients(0)
    /// holds the sum in the rank's share of the bucket; its other elements are undefined. Runs on `context`, which may
    /// differ from the context that made the arrays. The timeline shows the bucket as `number`.
    void queue_sum(Context& context, const Bucket& bucket, int32_t number = -1, Timeline* timeline = nullptr);

    /// Sends each rank's share of a bucket's sum to all ranks.
    void queue_gather(Context& context, const Bucket& bucket);

  private:
    bool is_narrow() const { return !outgoing_.empty(); }
    /// Rounds a node, when nodes are rounded.
    void round(Context& context, const Tensor& node) const;
    Tensor in_lane(int64_t lane, Range elements) const {
        return lane_gradients(lane).flat().slice(0, elements.begin, elements.end);
    }
    void add_own_lanes(Context& context, Range elements);
    /// The rank's share of each node: a view of the own array for own nodes, a receive buffer for the others.
    std::vector<Tensor> node_shares(Range share) const;
    void exchange_nodes(Context& context, const Bucket& bucket, const std::vector<Tensor>& received);

    Context& context_;
    const Distribution& distribution_;
    std::vector<model::FlatArray> lanes_;
    /// The tree's nodes that a single rank sums by itself, and the rank of each.
    std::vector<Range> nodes_;
    std::vector<int> owners_;
    DeviceBuffer received_buffer_;
    Tensor received_;  // [other ranks' nodes, the largest share of a bucket]
    DeviceBuffer narrow_buffer_;
    Tensor outgoing_, incoming_;  // bf16 [own nodes, the largest bucket], and like received_; absent in f32
};

}  // namespace ballast::train

// The gradients of a step: one flat array for each of the rank's lanes, and their sum over all lanes.
//
// With train.reduction_dtype = "bf16" every node of the tree over lanes, single lanes and the root too, is rounded to
// bf16. A node is then sent exactly in half the bytes, whoever has it, so the bits stay those of any number of ranks.
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

    /// Memory of the arrays, and of what comes from other ranks and in bf16 goes to them: buckets are reduced one after
    /// another, so it is that of the largest.
    static size_t array_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution);
    static size_t received_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution);

    /// Of the rank's lane, counted from its first.
    const model::FlatArray& lane_gradients(int64_t lane) const { return lanes_[static_cast<size_t>(lane)]; }
    /// Sets all to zero.
    void queue_clear();
    /// Adds up a bucket of all ranks' lanes in the tree's order (train/lanes.h): afterwards the rank's share of it in
    /// lane_gradients(0) holds the sum, and what lies outside it means nothing. Runs on `context`, which may be another
    /// than the one that the arrays were made on. For the timeline it is bucket `number`.
    void queue_sum(Context& context, const Bucket& bucket, int32_t number = -1, Timeline* timeline = nullptr);

    /// Gives the shares of a bucket's sum to all ranks.
    void queue_gather(Context& context, const Bucket& bucket);

  private:
    bool is_narrow() const { return !outgoing_.empty(); }
    /// Of a node, where nodes are rounded.
    void round(Context& context, const Tensor& node) const;
    Tensor in_lane(int64_t lane, Range elements) const {
        return lane_gradients(lane).flat().slice(0, elements.begin, elements.end);
    }
    void add_own_lanes(Context& context, Range elements);
    /// The rank's share of each node: of its own a part of their array, of others where they arrive.
    std::vector<Tensor> node_shares(Range share) const;
    void exchange_nodes(Context& context, const Bucket& bucket, const std::vector<Tensor>& received);

    Context& context_;
    const Distribution& distribution_;
    std::vector<model::FlatArray> lanes_;
    /// The tree's nodes that ranks add up by themselves, and which rank does.
    std::vector<Range> nodes_;
    std::vector<int> owners_;
    DeviceBuffer received_buffer_;
    Tensor received_;  // [other ranks' nodes, the largest share of a bucket]
    DeviceBuffer narrow_buffer_;
    Tensor outgoing_, incoming_;  // bf16 [own nodes, the largest bucket], and like received_; absent in f32
};

}  // namespace ballast::train

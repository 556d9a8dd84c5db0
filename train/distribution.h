// How the work and the state of one step are divided among ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/communicator.h"
#include "kernels/ops.h"
#include "model/parameter_table.h"
#include "train/lanes.h"
#include "train/run_config.h"

namespace ballast::train {

/// The same on every rank except for `rank`. With one rank and one lane nothing is divided, and the bits are those of a
/// run without ranks.
class Distribution {
  public:
    /// UserError when there are more ranks than lanes or passes.
    Distribution(const RunConfig& config, Communicator& ranks);
    /// One rank with all of the configuration's lanes.
    explicit Distribution(const RunConfig& config);
    /// One rank, one lane.
    static const Distribution& single();

    Communicator& ranks() const { return *ranks_; }
    int64_t lanes() const { return lanes_; }
    bool shards_optimizer() const { return zero_ > 0; }
    bool is_trivial() const { return lanes_ == 1; }
    /// The dtype to which every node of the tree over lanes is rounded, and in which nodes are sent.
    Dtype reduction_dtype() const { return reduction_dtype_; }
    /// True when gradients are reduced while the backward pass still runs.
    bool overlaps() const { return overlaps_ && ranks_->size() > 1; }
    /// The smallest number of elements in a bucket of gradients (Shards).
    int64_t bucket_elements() const { return bucket_elements_; }

    Range rank_lanes(int rank) const { return partition_range(lanes_, ranks_->size(), rank); }
    Range own_lanes() const { return rank_lanes(ranks_->rank()); }
    Range lane_passes(int64_t lane) const { return partition_range(passes_, lanes_, lane); }
    Range rank_passes(int rank) const;
    Range own_passes() const { return rank_passes(ranks_->rank()); }
    /// rank_passes() of all ranks, as bounds of all_gather().
    std::vector<int64_t> pass_bounds() const;

  private:
    Distribution();

    Communicator* ranks_;
    int64_t lanes_ = 1, passes_ = 1, zero_ = 0, bucket_elements_ = 1;
    Dtype reduction_dtype_ = Dtype::f32;
    bool overlaps_ = false;
};

/// Parameters that are adjacent in the flat arrays and whose gradients are reduced together.
struct Bucket {
    int64_t last_part = 0;  // its gradients are complete after this part of a backward pass (model::backward_part())
    /// The first block of each rank's share, and the end of the last share; the same for elements.
    std::vector<int64_t> block_bounds, element_bounds;

    Range blocks() const { return {block_bounds.front(), block_bounds.back()}; }
    Range elements() const { return {element_bounds.front(), element_bounds.back()}; }
    Range blocks_of(int rank) const { return between(block_bounds, rank); }
    Range rank_elements(int rank) const { return between(element_bounds, rank); }
    /// The size of the largest share of a rank.
    int64_t most_elements() const;

  private:
    static Range between(const std::vector<int64_t>& bounds, int rank) {
        return {bounds[static_cast<size_t>(rank)], bounds[static_cast<size_t>(rank) + 1]};
    }
};

/// The division of the flat arrays among ranks. Every parameter is divided into blocks of at most kElements, counted
/// from its own beginning, so that a sum over a block is the same on every rank. Blocks form buckets, in the order in
/// which a backward pass finishes them. Each rank has one run of whole blocks of each bucket.
///
/// Every bucket except the last has at least Distribution::bucket_elements() elements and at least one block per rank.
class Shards {
  public:
    static constexpr int64_t kElements = 65536;

    Shards(const model::ParameterTable& table, const Distribution& distribution);

    /// In the order of the parameter table.
    std::span<const ops::ParameterSpan> blocks() const { return blocks_; }
    /// The row, in the table, of the block's parameter.
    size_t row_of_block(size_t block) const { return rows_[block]; }
    std::span<const Bucket> buckets() const { return buckets_; }
    /// The index of the bucket that contains the parameter.
    size_t bucket_index(const model::ParameterRow& row) const;
    /// The number of elements that a rank has in all buckets.
    int64_t rank_elements(int rank) const;

  private:
    void cut_into_blocks(const model::ParameterTable& table, int64_t most_elements);
    void add_bucket(int64_t last_part, Range blocks, Range elements, int ranks);

    std::vector<ops::ParameterSpan> blocks_;
    std::vector<size_t> rows_;
    std::vector<Bucket> buckets_;
};

}  // namespace ballast::train

// How the work and the state of one step are shared out among ranks.
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

/// The same on every rank but for `rank`. With one rank and one lane nothing is shared out, and runs have the bits that
/// they had before there were ranks.
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
    /// What every node of the tree over lanes is rounded to, and sent in.
    Dtype reduction_dtype() const { return reduction_dtype_; }
    /// Whether gradients are to be reduced while the backward pass still runs.
    bool overlaps() const { return overlaps_ && ranks_->size() > 1; }
    /// Elements that a bucket of gradients has at least (Shards).
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

/// Parameters that follow one another in the flat arrays and whose gradients are reduced together.
struct Bucket {
    int64_t last_part = 0;  // when the backward pass has finished this part, all of them are (model::backward_part())
    /// First blocks of all ranks' shares and the last one's end; elements likewise.
    std::vector<int64_t> block_bounds, element_bounds;

    Range blocks() const { return {block_bounds.front(), block_bounds.back()}; }
    Range elements() const { return {element_bounds.front(), element_bounds.back()}; }
    Range blocks_of(int rank) const { return between(block_bounds, rank); }
    Range rank_elements(int rank) const { return between(element_bounds, rank); }
    /// The largest share of a rank.
    int64_t most_elements() const;

  private:
    static Range between(const std::vector<int64_t>& bounds, int rank) {
        return {bounds[static_cast<size_t>(rank)], bounds[static_cast<size_t>(rank) + 1]};
    }
};

/// The flat arrays cut for ranks: every parameter in blocks of at most kElements from its own beginning, so that sums
/// over a block are the same wherever it is taken; blocks in buckets, in the order in which a backward pass finishes
/// them; of each bucket a run of whole blocks for each rank.
///
/// Buckets have at least Distribution::bucket_elements(), and a block for each rank, but for the last.
class Shards {
  public:
    static constexpr int64_t kElements = 65536;

    Shards(const model::ParameterTable& table, const Distribution& distribution);

    /// In the table's order.
    std::span<const ops::ParameterSpan> blocks() const { return blocks_; }
    /// The parameter's row in the table.
    size_t row_of_block(size_t block) const { return rows_[block]; }
    std::span<const Bucket> buckets() const { return buckets_; }
    /// The bucket that has the parameter.
    size_t bucket_index(const model::ParameterRow& row) const;
    /// Elements that a rank has in all buckets.
    int64_t rank_elements(int rank) const;

  private:
    void cut_into_blocks(const model::ParameterTable& table, int64_t most_elements);
    void add_bucket(int64_t last_part, Range blocks, Range elements, int ranks);

    std::vector<ops::ParameterSpan> blocks_;
    std::vector<size_t> rows_;
    std::vector<Bucket> buckets_;
};

}  // namespace ballast::train

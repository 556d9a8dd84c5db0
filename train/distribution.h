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

    Range lanes_of(int rank) const { return share_of(lanes_, ranks_->size(), rank); }
    Range own_lanes() const { return lanes_of(ranks_->rank()); }
    Range passes_of_lane(int64_t lane) const { return share_of(passes_, lanes_, lane); }
    Range passes_of(int rank) const;
    Range own_passes() const { return passes_of(ranks_->rank()); }
    /// passes_of() of all ranks, as bounds of all_gather().
    std::vector<int64_t> pass_bounds() const;

  private:
    Distribution();

    Communicator* ranks_;
    int64_t lanes_ = 1, passes_ = 1, zero_ = 0;
};

/// The flat arrays cut for ranks: every parameter in blocks of at most kElements from its own beginning, so that sums
/// over a block are the same wherever it is taken; each rank has a run of whole blocks.
class Shards {
  public:
    static constexpr int64_t kElements = 65536;

    Shards(const model::ParameterTable& table, const Distribution& distribution);

    std::span<const ops::ParameterSpan> blocks() const { return blocks_; }
    /// The parameter's row in the table.
    size_t row_of_block(size_t block) const { return rows_[block]; }
    /// First blocks of all ranks and the number of all; first elements likewise. As bounds of all_gather().
    const std::vector<int64_t>& block_bounds() const { return block_bounds_; }
    const std::vector<int64_t>& element_bounds() const { return element_bounds_; }
    Range blocks_of(int rank) const { return between(block_bounds_, rank); }
    Range elements_of(int rank) const { return between(element_bounds_, rank); }

  private:
    static Range between(const std::vector<int64_t>& bounds, int rank) {
        return {bounds[static_cast<size_t>(rank)], bounds[static_cast<size_t>(rank) + 1]};
    }

    std::vector<ops::ParameterSpan> blocks_;
    std::vector<size_t> rows_;
    std::vector<int64_t> block_bounds_, element_bounds_;
};

}  // namespace ballast::train

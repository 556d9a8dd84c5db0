#include "train/distribution.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::train {
namespace {

Communicator& alone() {
    static Communicator one;
    return one;
}

int64_t passes_of_step(const RunConfig& config) { return config.train.global_batch / config.samples_per_pass(); }

}  // namespace

Distribution::Distribution() : ranks_(&alone()) {}
Distribution::Distribution(const RunConfig& config) : Distribution(config, alone()) {}

const Distribution& Distribution::single() {
    static const Distribution distribution;
    return distribution;
}

Distribution::Distribution(const RunConfig& config, Communicator& ranks)
    : ranks_(&ranks),
      lanes_(config.train.reduction_lanes > 1 ? config.train.reduction_lanes : ranks.size()),
      passes_(passes_of_step(config)),
      zero_(config.train.zero) {
    if (ranks.size() > lanes_)
        throw UserError(
            fmt::format("{} ranks, but train.reduction_lanes = {}, and a rank has whole lanes; raise the lanes "
                        "or start fewer ranks",
                        ranks.size(), lanes_));
    if (lanes_ > passes_)
        throw UserError(fmt::format(
            "{} {}, but an update has {} passes of {} samples; lower train.micro_batch or raise train.global_batch",
            lanes_, config.train.reduction_lanes > 1 ? "lanes" : "ranks", passes_, config.samples_per_pass()));
}

Range Distribution::passes_of(int rank) const {
    const Range own = lanes_of(rank);
    return {passes_of_lane(own.begin).begin, passes_of_lane(own.end - 1).end};
}

std::vector<int64_t> Distribution::pass_bounds() const {
    std::vector<int64_t> bounds{0};
    for (int r = 0; r < ranks_->size(); ++r) bounds.push_back(passes_of(r).end);
    return bounds;
}

Shards::Shards(const model::ParameterTable& table, const Distribution& distribution) {
    if (distribution.is_trivial()) {  // whole parameters: the norm is added up in the order that it always had
        blocks_ = table.spans();
        for (size_t row = 0; row < blocks_.size(); ++row) rows_.push_back(row);
    } else {
        const auto spans = table.spans();
        for (size_t row = 0; row < spans.size(); ++row)
            for (int64_t at = 0; at < spans[row].count; at += kElements) {
                blocks_.push_back(
                    {spans[row].offset + at, std::min(kElements, spans[row].count - at), spans[row].decay});
                rows_.push_back(row);
            }
    }
    const auto ranks = distribution.ranks().size();
    for (int r = 0; r <= ranks; ++r) {
        const int64_t element = table.flat_size() * r / ranks;  // the first block that begins there or later
        const auto found = std::lower_bound(blocks_.begin(), blocks_.end(), element,
                                            [](const ops::ParameterSpan& b, int64_t e) { return b.offset < e; });
        block_bounds_.push_back(found - blocks_.begin());
        element_bounds_.push_back(found == blocks_.end() ? table.flat_size() : found->offset);
    }
    element_bounds_.front() = 0;
}

}  // namespace ballast::train

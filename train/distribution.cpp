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
      zero_(config.train.zero),
      bucket_elements_(config.train.reduce_bucket_size),
      reduction_dtype_(config.train.reduction_dtype),
      overlaps_(config.train.overlap) {
    if (ranks.size() > lanes_)
        throw UserError(
            fmt::format("{} ranks, but train.reduction_lanes = {}, and a rank has whole lanes; raise the lanes "
                        "or start fewer ranks",
                        ranks.size(), lanes_));
    if (lanes_ > passes_) {
        const char* const what = config.train.reduction_lanes > 1 ? "lanes" : "ranks";
        const int64_t samples = config.samples_per_pass();
        throw UserError(fmt::format(
            "{} {}, but an update has {} passes of {} samples; {} or raise train.global_batch", lanes_, what, passes_,
            samples,
            samples > 1 ? fmt::format("set train.micro_batch below {}", samples) : fmt::format("take fewer {}", what)));
    }
}

Range Distribution::rank_passes(int rank) const {
    const Range own = rank_lanes(rank);
    return {lane_passes(own.begin).begin, lane_passes(own.end - 1).end};
}

std::vector<int64_t> Distribution::pass_bounds() const {
    std::vector<int64_t> bounds{0};
    for (int r = 0; r < ranks_->size(); ++r) bounds.push_back(rank_passes(r).end);
    return bounds;
}

int64_t Bucket::most_elements() const {
    int64_t most = 0;
    for (size_t r = 0; r + 1 < element_bounds.size(); ++r)
        most = std::max(most, element_bounds[r + 1] - element_bounds[r]);
    return most;
}

void Shards::cut_into_blocks(const model::ParameterTable& table, int64_t most_elements) {
    const auto spans = table.spans();
    for (size_t row = 0; row < spans.size(); ++row)
        for (int64_t at = 0; at < spans[row].count; at += most_elements) {
            blocks_.push_back(
                {spans[row].offset + at, std::min(most_elements, spans[row].count - at), spans[row].decay});
            rows_.push_back(row);
        }
}

void Shards::add_bucket(int64_t last_part, Range blocks, Range elements, int ranks) {
    Bucket bucket{last_part, {}, {}};
    const auto first = blocks_.begin() + blocks.begin, last = blocks_.begin() + blocks.end;
    for (int r = 0; r <= ranks; ++r) {
        // The first block that begins there or later.
        const int64_t element = elements.begin + elements.size() * r / ranks;
        const auto found =
            std::lower_bound(first, last, element, [](const ops::ParameterSpan& b, int64_t e) { return b.offset < e; });
        bucket.block_bounds.push_back(found - blocks_.begin());
        bucket.element_bounds.push_back(found == last ? elements.end : found->offset);
    }
    bucket.element_bounds.front() = elements.begin;
    buckets_.push_back(std::move(bucket));
}

Shards::Shards(const model::ParameterTable& table, const Distribution& distribution) {
    const int ranks = distribution.ranks().size();
    if (distribution.is_trivial()) {  // whole parameters: the norm is added up in the order that it always had
        cut_into_blocks(table, table.flat_size());
        add_bucket(-1, {0, static_cast<int64_t>(blocks_.size())}, {0, table.flat_size()}, ranks);
        return;
    }
    cut_into_blocks(table, kElements);
    int64_t num_layers = 0;
    for (const model::ParameterRow& row : table.rows()) num_layers = std::max(num_layers, row.layer + 1);
    const auto part_of = [&](int64_t block) {
        return model::backward_part(table.rows()[rows_[static_cast<size_t>(block)]], num_layers);
    };
    Range blocks{static_cast<int64_t>(blocks_.size()), static_cast<int64_t>(blocks_.size())};
    Range elements{table.flat_size(), table.flat_size()};
    while (blocks.begin > 0) {  // from the end of the table, where the head is, to its beginning
        const int64_t part = part_of(--blocks.begin);
        elements.begin = blocks_[static_cast<size_t>(blocks.begin)].offset;
        const bool at_end = blocks.begin == 0,
                   is_full = elements.size() >= distribution.bucket_elements() && blocks.size() >= ranks;
        require(at_end || part_of(blocks.begin - 1) <= part, "parameters in another order than a backward pass's");
        if (!at_end && (part_of(blocks.begin - 1) == part || !is_full)) continue;
        add_bucket(part, blocks, elements, ranks);
        blocks.end = blocks.begin;
        elements.end = elements.begin;
    }
}

size_t Shards::bucket_index(const model::ParameterRow& row) const {
    for (size_t b = 0; b < buckets_.size(); ++b)
        if (buckets_[b].elements().begin <= row.offset && row.offset < buckets_[b].elements().end) return b;
    throw InternalError("a parameter in no bucket");
}

int64_t Shards::rank_elements(int rank) const {
    int64_t elements = 0;
    for (const Bucket& bucket : buckets_) elements += bucket.rank_elements(rank).size();
    return elements;
}

}  // namespace ballast::train

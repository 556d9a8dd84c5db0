#include "train/gradient_sum.h"

#include <algorithm>

#include "kernels/collectives.h"

namespace ballast::train {
namespace {

/// Lanes one by one.
std::vector<Range> single_lanes(Range lanes) {
    std::vector<Range> out;
    for (int64_t lane = lanes.begin; lane < lanes.end; ++lane) out.push_back({lane, lane + 1});
    return out;
}

Range all_lanes(const Distribution& distribution) { return {0, distribution.lanes()}; }

int64_t nodes_of_others(const Distribution& distribution) {
    size_t nodes = 0;
    for (int r = 0; r < distribution.ranks().size(); ++r)
        if (r != distribution.ranks().rank())
            nodes += whole_nodes(all_lanes(distribution), distribution.lanes_of(r)).size();
    return static_cast<int64_t>(nodes);
}

int64_t largest_share(const Shards& shards, int rank) {
    int64_t elements = 0;
    for (const Bucket& bucket : shards.buckets()) elements = std::max(elements, bucket.elements_of(rank).size());
    return elements;
}

}  // namespace

GradientSum::GradientSum(Context& context, const model::ParameterTable& table, Dtype dtype,
                         const Distribution& distribution, const Shards& shards)
    : context_(context),
      distribution_(distribution),
      received_buffer_(context.allocate(received_bytes(table, dtype, distribution))),
      received_(received_buffer_.data(), dtype,
                {nodes_of_others(distribution), largest_share(shards, distribution.ranks().rank())}) {
    for (int64_t lane = 0; lane < distribution.own_lanes().size(); ++lane) lanes_.emplace_back(context, table, dtype);
    for (int r = 0; r < distribution.ranks().size(); ++r)
        for (const Range& node : whole_nodes(all_lanes(distribution), distribution.lanes_of(r))) {
            nodes_.push_back(node);
            owners_.push_back(r);
        }
}

size_t GradientSum::array_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution) {
    return static_cast<size_t>(distribution.own_lanes().size() * table.flat_size()) * size_of(dtype);
}

size_t GradientSum::received_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution) {
    const Shards shards(table, distribution);
    return static_cast<size_t>(nodes_of_others(distribution) * largest_share(shards, distribution.ranks().rank())) *
           size_of(dtype);
}

void GradientSum::queue_clear() {
    for (const model::FlatArray& lane : lanes_) context_.zero(lane.flat());
}

void GradientSum::add_own_lanes(Context& context, Range elements) {
    const Range own = distribution_.own_lanes();
    const std::vector<Range> leaves = single_lanes(own);
    for (const Range& node : whole_nodes(all_lanes(distribution_), own))
        add_tree(node, leaves, [&](size_t into, size_t from) {
            const Tensor sum = in_lane(static_cast<int64_t>(into), elements);
            ops::add(context, sum, sum, in_lane(static_cast<int64_t>(from), elements));
        });
}

std::vector<Tensor> GradientSum::shares_of_nodes(Range share) const {
    std::vector<Tensor> shares;
    int64_t others = 0;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        if (owners_[i] == distribution_.ranks().rank()) {
            shares.push_back(in_lane(nodes_[i].begin - distribution_.own_lanes().begin, share));
        } else {
            const Tensor place = received_.slice(0, others, others + 1).view({received_.dim(1)});
            shares.push_back(place.slice(0, 0, share.size()));
            ++others;
        }
    }
    return shares;
}

void GradientSum::exchange_nodes(Context& context, const Bucket& bucket, const std::vector<Tensor>& received) {
    Communicator& ranks = distribution_.ranks();
    const int own = ranks.rank();
    std::vector<TensorMessage> out, in;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        if (owners_[i] != own) {
            in.push_back({owners_[i], received[i]});
            continue;
        }
        const int64_t lane = nodes_[i].begin - distribution_.own_lanes().begin;
        for (int r = 0; r < ranks.size(); ++r)
            if (r != own) out.push_back({r, in_lane(lane, bucket.elements_of(r))});
    }
    exchange(context, ranks, out, in);
}

void GradientSum::queue_sum(Context& context, const Bucket& bucket, Timeline* timeline) {
    if (distribution_.is_trivial()) return;
    {
        const Span span(timeline, Track::communication, "add own lanes");
        add_own_lanes(context, bucket.elements());
    }
    const Range share = bucket.elements_of(distribution_.ranks().rank());
    const std::vector<Tensor> received = shares_of_nodes(share);
    {
        const Span span(timeline, Track::communication, "exchange");
        exchange_nodes(context, bucket, received);
    }
    const Span span(timeline, Track::communication, "add");
    const size_t sum = add_tree(all_lanes(distribution_), nodes_, [&](size_t into, size_t from) {
        ops::add(context, received[into], received[into], received[from]);
    });
    const Tensor mine = in_lane(0, share);
    if (received[sum].data != mine.data) ops::copy(context, mine, received[sum]);
}

}  // namespace ballast::train

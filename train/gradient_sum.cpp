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

int64_t foreign_nodes(const Distribution& distribution) {
    size_t nodes = 0;
    for (int r = 0; r < distribution.ranks().size(); ++r)
        if (r != distribution.ranks().rank())
            nodes += whole_nodes(all_lanes(distribution), distribution.rank_lanes(r)).size();
    return static_cast<int64_t>(nodes);
}

int64_t largest_share(const Shards& shards, int rank) {
    int64_t elements = 0;
    for (const Bucket& bucket : shards.buckets()) elements = std::max(elements, bucket.rank_elements(rank).size());
    return elements;
}

/// Whether nodes of `dtype` are rounded.
bool rounds(const Distribution& distribution, Dtype dtype) {
    return !distribution.is_trivial() && distribution.reduction_dtype() == Dtype::bf16 && dtype != Dtype::bf16;
}

/// What is sent in bf16, and what arrives so.
struct NarrowShape {
    int64_t own_nodes, bucket, foreign_nodes, share;

    NarrowShape(const Distribution& distribution, const Shards& shards)
        : own_nodes(static_cast<int64_t>(whole_nodes(all_lanes(distribution), distribution.own_lanes()).size())),
          bucket(0),
          foreign_nodes(::ballast::train::foreign_nodes(distribution)),
          share(largest_share(shards, distribution.ranks().rank())) {
        for (const Bucket& b : shards.buckets()) bucket = std::max(bucket, b.elements().size());
    }
    int64_t elements() const { return own_nodes * bucket + foreign_nodes * share; }
};

/// The first elements of a row of a matrix.
Tensor begin_of_row(const Tensor& matrix, int64_t row, int64_t elements) {
    return matrix.slice(0, row, row + 1).view({matrix.dim(1)}).slice(0, 0, elements);
}

}  // namespace

GradientSum::GradientSum(Context& context, const model::ParameterTable& table, Dtype dtype,
                         const Distribution& distribution, const Shards& shards)
    : context_(context),
      distribution_(distribution),
      received_buffer_(context.allocate(
          static_cast<size_t>(foreign_nodes(distribution) * largest_share(shards, distribution.ranks().rank())) *
          size_of(dtype))),
      received_(received_buffer_.data(), dtype,
                {foreign_nodes(distribution), largest_share(shards, distribution.ranks().rank())}) {
    for (int64_t lane = 0; lane < distribution.own_lanes().size(); ++lane) lanes_.emplace_back(context, table, dtype);
    for (int r = 0; r < distribution.ranks().size(); ++r)
        for (const Range& node : whole_nodes(all_lanes(distribution), distribution.rank_lanes(r))) {
            nodes_.push_back(node);
            owners_.push_back(r);
        }
    if (!rounds(distribution, dtype)) return;
    const NarrowShape shape(distribution, shards);
    narrow_buffer_ = context.allocate(static_cast<size_t>(shape.elements()) * size_of(Dtype::bf16));
    const Tensor both(narrow_buffer_.data(), Dtype::bf16, {shape.elements()});
    const int64_t out = shape.own_nodes * shape.bucket;
    outgoing_ = both.slice(0, 0, out).view({shape.own_nodes, shape.bucket});
    if (shape.foreign_nodes > 0)
        incoming_ = both.slice(0, out, shape.elements()).view({shape.foreign_nodes, shape.share});
}

size_t GradientSum::array_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution) {
    return static_cast<size_t>(distribution.own_lanes().size() * table.flat_size()) * size_of(dtype);
}

size_t GradientSum::received_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution) {
    const Shards shards(table, distribution);
    const int64_t received = foreign_nodes(distribution) * largest_share(shards, distribution.ranks().rank()),
                  narrow = rounds(distribution, dtype) ? NarrowShape(distribution, shards).elements() : 0;
    return static_cast<size_t>(received) * size_of(dtype) + static_cast<size_t>(narrow) * size_of(Dtype::bf16);
}

void GradientSum::queue_clear() {
    for (const model::FlatArray& lane : lanes_) context_.zero(lane.flat());
}

void GradientSum::round(Context& context, const Tensor& node) const {
    if (!is_narrow()) return;
    const Tensor rounded = begin_of_row(outgoing_, 0, node.numel());
    ops::cast(context, rounded, node);
    ops::cast(context, node, rounded);
}

void GradientSum::add_own_lanes(Context& context, Range elements) {
    const Range own = distribution_.own_lanes();
    for (int64_t lane = 0; lane < own.size(); ++lane) round(context, in_lane(lane, elements));
    const std::vector<Range> leaves = single_lanes(own);
    for (const Range& node : whole_nodes(all_lanes(distribution_), own))
        add_tree(node, leaves, [&](size_t into, size_t from) {
            const Tensor sum = in_lane(static_cast<int64_t>(into), elements);
            ops::add(context, sum, sum, in_lane(static_cast<int64_t>(from), elements));
            round(context, sum);
        });
}

std::vector<Tensor> GradientSum::node_shares(Range share) const {
    std::vector<Tensor> shares;
    int64_t others = 0;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        if (owners_[i] == distribution_.ranks().rank()) {
            shares.push_back(in_lane(nodes_[i].begin - distribution_.own_lanes().begin, share));
        } else {
            shares.push_back(begin_of_row(received_, others++, share.size()));
        }
    }
    return shares;
}

void GradientSum::exchange_nodes(Context& context, const Bucket& bucket, const std::vector<Tensor>& received) {
    Communicator& ranks = distribution_.ranks();
    const int own = ranks.rank();
    const Range elements = bucket.elements();
    std::vector<TensorMessage> out, in;
    std::vector<Tensor> widened;  // where those that come in are to be
    int64_t own_node = 0;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        if (owners_[i] != own) {
            const auto other = static_cast<int64_t>(in.size());
            in.push_back({owners_[i], is_narrow() ? begin_of_row(incoming_, other, received[i].numel()) : received[i]});
            widened.push_back(received[i]);
            continue;
        }
        Tensor node = in_lane(nodes_[i].begin - distribution_.own_lanes().begin, elements);
        if (is_narrow()) {
            const Tensor narrow = begin_of_row(outgoing_, own_node++, elements.size());
            ops::cast(context, narrow, node);
            node = narrow;
        }
        for (int r = 0; r < ranks.size(); ++r) {
            const Range share = bucket.rank_elements(r);
            if (r != own) out.push_back({r, node.slice(0, share.begin - elements.begin, share.end - elements.begin)});
        }
    }
    exchange(context, ranks, out, in);
    if (!is_narrow()) return;
    for (size_t other = 0; other < in.size(); ++other) ops::cast(context, widened[other], in[other].values);
}

void GradientSum::queue_sum(Context& context, const Bucket& bucket, int32_t number, Timeline* timeline) {
    if (distribution_.is_trivial()) return;
    {
        const Span span(timeline, Track::communication, {Activity::add_own_lanes, number});
        add_own_lanes(context, bucket.elements());
    }
    const Range share = bucket.rank_elements(distribution_.ranks().rank());
    const std::vector<Tensor> received = node_shares(share);
    {
        const Span span(timeline, Track::communication, {Activity::exchange_gradients, number});
        exchange_nodes(context, bucket, received);
    }
    const Span span(timeline, Track::communication, {Activity::add_ranks, number});
    const size_t sum = add_tree(all_lanes(distribution_), nodes_, [&](size_t into, size_t from) {
        ops::add(context, received[into], received[into], received[from]);
        round(context, received[into]);
    });
    const Tensor mine = in_lane(0, share);
    if (received[sum].data != mine.data) ops::copy(context, mine, received[sum]);
}

void GradientSum::queue_gather(Context& context, const Bucket& bucket) {
    Communicator& ranks = distribution_.ranks();
    if (ranks.size() == 1) return;
    std::vector<int64_t> bounds = bucket.element_bounds;
    for (int64_t& bound : bounds) bound -= bucket.elements().begin;
    const Tensor sum = in_lane(0, bucket.elements());
    if (!is_narrow()) return all_gather(context, ranks, sum, bounds);
    const Tensor narrow = begin_of_row(outgoing_, 0, sum.numel());
    ops::cast(context, narrow, sum);  // the own share is exact, and nothing else goes out
    all_gather(context, ranks, narrow, bounds);
    ops::cast(context, sum, narrow);
}

}  // namespace ballast::train

#include "train/gradient_sum.h"

#include "base/arena.h"
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

}  // namespace

GradientSum::GradientSum(Context& context, const model::ParameterTable& table, Dtype dtype,
                         const Distribution& distribution, const Shards& shards)
    : context_(context), distribution_(distribution), shards_(shards) {
    const Range own = distribution.own_lanes();
    for (int64_t lane = 0; lane < own.size(); ++lane) lanes_.emplace_back(context, table, dtype);
    Communicator& ranks = distribution.ranks();
    for (int r = 0; r < ranks.size(); ++r)
        for (const Range& node : whole_nodes(all_lanes(distribution), distribution.lanes_of(r))) {
            nodes_.push_back(node);
            owners_.push_back(r);
        }
    const Range shard = shards.elements_of(ranks.rank());
    const auto layout = [&](Arena& arena) {
        received_.clear();
        for (size_t i = 0; i < nodes_.size(); ++i)
            received_.push_back(owners_[i] == ranks.rank()
                                    ? of_lane(nodes_[i].begin - own.begin).flat().slice(0, shard.begin, shard.end)
                                    : arena.tensor(dtype, {shard.size()}));
    };
    Arena sizes;
    layout(sizes);
    received_buffer_ = context.allocate(sizes.peak_bytes());
    Arena arena(received_buffer_.data(), received_buffer_.bytes());
    layout(arena);
}

size_t GradientSum::array_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution) {
    return static_cast<size_t>(distribution.own_lanes().size() * table.flat_size()) * size_of(dtype);
}

size_t GradientSum::received_bytes(const model::ParameterTable& table, Dtype dtype, const Distribution& distribution) {
    const Shards shards(table, distribution);
    const int own = distribution.ranks().rank();
    size_t nodes = 0;
    for (int r = 0; r < distribution.ranks().size(); ++r)
        if (r != own) nodes += whole_nodes(all_lanes(distribution), distribution.lanes_of(r)).size();
    return nodes * static_cast<size_t>(shards.elements_of(own).size()) * size_of(dtype);
}

void GradientSum::queue_clear() {
    for (const model::FlatArray& lane : lanes_) context_.zero(lane.flat());
}

void GradientSum::add_own_lanes() {
    const Range own = distribution_.own_lanes();
    const std::vector<Range> leaves = single_lanes(own);
    for (const Range& node : whole_nodes(all_lanes(distribution_), own))
        add_tree(node, leaves, [&](size_t into, size_t from) {
            const Tensor sum = lanes_[into].flat();
            ops::add(context_, sum, sum, lanes_[from].flat());
        });
}

void GradientSum::exchange_nodes() {
    Communicator& ranks = distribution_.ranks();
    const int own = ranks.rank();
    std::vector<TensorMessage> out, in;
    for (size_t i = 0; i < nodes_.size(); ++i) {
        if (owners_[i] != own) {
            in.push_back({owners_[i], received_[i]});
            continue;
        }
        const Tensor node = of_lane(nodes_[i].begin - distribution_.own_lanes().begin).flat();
        for (int r = 0; r < ranks.size(); ++r) {
            const Range shard = shards_.elements_of(r);
            if (r != own) out.push_back({r, node.slice(0, shard.begin, shard.end)});
        }
    }
    exchange(context_, ranks, out, in);
}

void GradientSum::queue_sum() {
    if (distribution_.is_trivial()) return;
    add_own_lanes();
    exchange_nodes();
    const Range shard = shards_.elements_of(distribution_.ranks().rank());
    const size_t sum = add_tree(all_lanes(distribution_), nodes_, [&](size_t into, size_t from) {
        ops::add(context_, received_[into], received_[into], received_[from]);
    });
    const Tensor mine = of_lane(0).flat().slice(0, shard.begin, shard.end);
    if (received_[sum].data != mine.data) ops::copy(context_, mine, received_[sum]);
}

}  // namespace ballast::train

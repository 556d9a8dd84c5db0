// The order in which the gradients of a step are added, the same for any number of ranks.
//
// A step's passes are assigned to lanes, in order. Each lane adds its own passes; lanes are added in a fixed binary
// tree. A rank owns whole lanes, so a sum in the tree has the same bits wherever its lanes are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ballast::train {

/// [begin, end) of lanes, passes or elements.
struct Range {
    int64_t begin = 0, end = 0;
    int64_t size() const { return end - begin; }
    bool operator==(const Range&) const = default;
};

/// Part `i` of [0, count), divided in order into `parts` parts that are as equal as possible.
Range partition_range(int64_t count, int64_t parts, int64_t i);

/// The two children of a node over several lanes: the node over its first 2^k lanes, where 2^k is the largest power of
/// two below their number, and the node over the rest.
struct LaneSplit {
    Range left, right;
};
LaneSplit split(Range lanes);

/// The largest nodes of the tree over `all` whose lanes are all in `own`, from left to right.
std::vector<Range> whole_nodes(Range all, Range own);

/// Sums the tree over `lanes` from `leaves`: nodes that together cover the lanes, from left to right. add(i, j) must
/// add leaf j to leaf i. Returns the index of the leaf that holds the sum.
template <class Add>
size_t add_tree(Range lanes, const std::vector<Range>& leaves, Add&& add, size_t first_leaf = 0) {
    size_t leaf = first_leaf;
    while (leaves[leaf].end <= lanes.begin) ++leaf;
    if (leaves[leaf] == lanes) return leaf;
    const auto [left, right] = split(lanes);
    const size_t into = add_tree(left, leaves, add, leaf), from = add_tree(right, leaves, add, leaf);
    add(into, from);
    return into;
}

}  // namespace ballast::train

// The order in which a step's gradients are added up, whatever the number of ranks.
//
// A step's passes are dealt to lanes, in order. Each lane adds up its own passes; lanes are added in a fixed binary
// tree. A rank owns whole lanes, so a sum of the tree is the same to the bit wherever its lanes are.
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

/// Part `i` of `count` things dealt to `parts` in order, as evenly as can be.
Range partition_range(int64_t count, int64_t parts, int64_t i);

/// The tree's nodes: a node over several lanes adds the node over its first 2^k of them, 2^k the largest power of two
/// below their number, and the node over the rest.
struct LaneSplit {
    Range left, right;
};
LaneSplit split(Range lanes);

/// The largest nodes of the tree over `all` whose lanes are within `own`, from left to right.
std::vector<Range> whole_nodes(Range all, Range own);

/// Adds up the tree over `lanes` from `leaves`, nodes that make it up from left to right: add(i, j) puts leaf i + leaf
/// j into leaf i. Returns the leaf that then holds the sum.
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

#include "train/lanes.h"

#include <bit>

#include "base/error.h"

namespace ballast::train {
namespace {

void add_whole_nodes(Range node, Range own, std::vector<Range>& out) {
    if (node.end <= own.begin || own.end <= node.begin) return;
    if (own.begin <= node.begin && node.end <= own.end) {
        out.push_back(node);
        return;
    }
    const auto [left, right] = split(node);
    add_whole_nodes(left, own, out);
    add_whole_nodes(right, own, out);
}

}  // namespace

Range partition_range(int64_t count, int64_t parts, int64_t i) { return {count * i / parts, count * (i + 1) / parts}; }

LaneSplit split(Range lanes) {
    require(lanes.size() > 1, "one lane has no parts");
    const auto half = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(lanes.size() - 1)));
    return {{lanes.begin, lanes.begin + half}, {lanes.begin + half, lanes.end}};
}

std::vector<Range> whole_nodes(Range all, Range own) {
    std::vector<Range> out;
    add_whole_nodes(all, own, out);
    return out;
}

}  // namespace ballast::train

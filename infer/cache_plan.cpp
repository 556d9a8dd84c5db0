#include "infer/cache_plan.h"

#include <algorithm>
#include <fmt/format.h>
#include <initializer_list>
#include <utility>

#include "base/error.h"
#include "kernels/ops.h"

namespace ballast::infer {
namespace {

/// Sums and products of these numbers then stay numbers.
void require_countable(std::initializer_list<int64_t> numbers) {
    constexpr int64_t kMost = int64_t{1} << 30;  // positions; no text has more (CacheSizes::kEndless)
    for (const int64_t number : numbers)
        if (number > kMost)
            throw UserError(fmt::format("{} positions or blocks are more than any text has; choose fewer", number));
}

}  // namespace

CachePlan::CachePlan(int64_t layers, int64_t heads, std::vector<HeadCache> caches, PositionRule rule)
    : layers_(layers), heads_(heads), caches_(std::move(caches)), rule_(rule) {
    require(layers > 0 && heads > 0 && static_cast<int64_t>(caches_.size()) == layers * heads,
            "a plan has a cache for every head");
    for (int64_t l = 0; l < layers; ++l)
        for (int64_t h = 0; h < heads; ++h) {
            const HeadCache& head = cache(l, h);
            if (head.sinks < 0 || head.span < HeadCache::kAll)
                throw UserError(fmt::format("layer {}, head {}: there is no cache of {} sinks and a span of {}", l, h,
                                            head.sinks, head.span));
            if (head.bounded() && head.sinks != sinks())
                throw UserError(
                    fmt::format("layer {}, head {} keeps {} sinks where others keep {}; all must keep as many", l, h,
                                head.sinks, sinks()));
            require(head.by_score() ? head == caches_.front() : !caches_.front().by_score(),
                    "heads that choose by score choose alike");
            require(!head.heavy || (rule == PositionRule::absolute && head.bounded() && *head.heavy >= 0),
                    "heavy hitters are of a bounded cache that keeps positions as they are in the text");
            require(!head.chosen_blocks || (rule == PositionRule::in_cache && head.span >= 0 && !head.heavy),
                    "a memory of blocks has a span, and positions in the cache");
            if (rule == PositionRule::in_cache && head != caches_.front())
                throw UserError(fmt::format(
                    "layer {}, head {} keeps something else than the first head: positions in the cache need caches of "
                    "one size",
                    l, h));
        }
}

CachePlan CachePlan::uniform(const CachePolicy& policy, int64_t layers, int64_t heads) {
    const HeadCache head{policy.num_sink_positions, policy.bounded() ? policy.recent : HeadCache::kAll};
    return {layers, heads, std::vector<HeadCache>(static_cast<size_t>(layers * heads), head), PositionRule::in_cache};
}

CachePlan CachePlan::heavy_hitters(int64_t heavy, int64_t recent, int64_t layers, int64_t heads) {
    if (heavy < 0 || recent < 1)
        throw UserError(fmt::format(
            "there is no cache of {} heavy and {} recent positions; keep at least one recent, and heavy ones or none",
            heavy, recent));
    require_countable({heavy, recent});
    const HeadCache head{.sinks = 0, .span = recent, .heavy = heavy};
    return {layers, heads, std::vector<HeadCache>(static_cast<size_t>(layers * heads), head), PositionRule::absolute};
}

CachePlan CachePlan::block_memory(int64_t initial, int64_t local, int64_t blocks, int64_t layers, int64_t heads) {
    constexpr int64_t kRows = ops::kCacheBlockRows;
    if (initial < 0 || initial % kRows != 0 || local < kRows || local % kRows != 0 || blocks < 0)
        throw UserError(
            fmt::format("there is no memory of {} initial and {} recent positions and {} blocks: the positions are "
                        "multiples of {}, with at least {} recent ones",
                        initial, local, blocks, kRows, kRows));
    require_countable({initial, local, blocks});
    const HeadCache head{.sinks = initial, .span = local - 1, .heavy = {}, .chosen_blocks = blocks};
    return {layers, heads, std::vector<HeadCache>(static_cast<size_t>(layers * heads), head), PositionRule::in_cache};
}

int64_t CachePlan::sinks() const {
    const auto first =
        std::find_if(caches_.begin(), caches_.end(), [](const HeadCache& head) { return head.bounded(); });
    return first == caches_.end() ? 0 : first->sinks;
}

int64_t CachePlan::longest_span() const {
    int64_t longest = 0;
    for (const HeadCache& head : caches_) {
        if (!head.bounded()) return HeadCache::kAll;
        longest = std::max(longest, head.span);
    }
    return longest;
}

}  // namespace ballast::infer

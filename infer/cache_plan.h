// What a cache keeps when its heads differ: a mixture of attention spans, as MoA finds one (Fu et al. 2024).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "infer/cache_policy.h"

namespace ballast::infer {

/// Where the keys at the start stand for a query that is far past them.
enum class PositionRule {
    absolute,  // at their distance in the text
    in_cache,  // at their distance inside the cache: the query stands at most at the cache's capacity (StreamingLLM)
};

/// What the cache of one head keeps: the first `sinks` positions and the last `span`, and of those between them what
/// has had the most attention.
struct HeadCache {
    static constexpr int64_t kAll = -1;

    int64_t sinks = 0;
    int64_t span = kAll;  // earlier positions that a query sees besides its own; kAll: every one
    /// So many earlier ones, chosen by score as the text goes on (H2O). Absent: none, and what a query sees is known in
    /// advance. With it, a prompt is read before anything is dropped.
    std::optional<int64_t> heavy = {};
    /// Everything earlier is kept too, in blocks of 64 positions, and every query reads the so many blocks that are
    /// most relevant to it, as if they stood at the edge of the span (InfLLM). Absent: there is no such memory.
    std::optional<int64_t> chosen_blocks = {};

    bool bounded() const { return span >= 0 && !chosen_blocks; }
    /// Whether what a query sees depends on the attention that rows have had.
    bool by_score() const { return heavy || chosen_blocks; }
    /// Positions kept for the next query, without a memory of blocks.
    int64_t capacity() const { return sinks + heavy.value_or(0) + span; }
    bool operator==(const HeadCache&) const = default;
};

/// A HeadCache for every (layer, head), and one position rule.
class CachePlan {
  public:
    /// `caches` is [layers, heads]. UserError for numbers that mean nothing, for bounded heads that keep different
    /// numbers of sinks (an attention mask has one), for the rule in_cache when heads differ, as their caches then have
    /// different capacities. Heads that choose by score are all alike.
    CachePlan(int64_t layers, int64_t heads, std::vector<HeadCache> caches, PositionRule rule);
    /// The policy in every head: StreamingLLM's caches.
    static CachePlan uniform(const CachePolicy& policy, int64_t layers, int64_t heads);
    /// H2O (Zhang et al. 2023): in every head the last `recent` positions, and of the earlier ones the `heavy` that
    /// have had the most attention. UserError for numbers that keep nothing recent.
    static CachePlan heavy_hitters(int64_t heavy, int64_t recent, int64_t layers, int64_t heads);

    int64_t layers() const { return layers_; }
    int64_t heads() const { return heads_; }
    PositionRule rule() const { return rule_; }
    const HeadCache& cache(int64_t layer, int64_t head) const {
        return caches_[static_cast<size_t>(layer * heads_ + head)];
    }

    /// False when a head keeps every position: memory then grows with the text.
    bool bounded() const { return longest_span() != HeadCache::kAll; }
    /// InfLLM (Xiao et al. 2024): in every head the first `initial` positions, the last `local`, the query's own among
    /// them, and the `blocks` blocks of 64 between them that are most relevant to the query. UserError for numbers that
    /// are no whole blocks, or keep nothing local.
    static CachePlan block_memory(int64_t initial, int64_t local, int64_t blocks, int64_t layers, int64_t heads);
    /// Whether what a query sees depends on the attention that rows have had.
    bool by_score() const { return caches_.front().by_score(); }
    /// Of the bounded heads; 0 when there are none.
    int64_t sinks() const;
    /// Over all heads; kAll when one keeps every position.
    int64_t longest_span() const;
    /// Positions of the largest cache. Only for a bounded plan.
    int64_t capacity() const { return sinks() + caches_.front().heavy.value_or(0) + longest_span(); }

  private:
    int64_t layers_, heads_;
    std::vector<HeadCache> caches_;
    PositionRule rule_;
};

}  // namespace ballast::infer

// Cache plans: the rows that a cache keeps when its heads differ, for example a mixture of attention spans as found by
// MoA (Fu et al. 2024).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "infer/cache_policy.h"

namespace ballast::infer {

/// The positions of the first keys for a query that is far past them.
enum class PositionRule {
    absolute,  // at their distance in the text
    in_cache,  // at their distance in the cache: the query's position is at most the cache's capacity (StreamingLLM)
};

/// The rows that the cache of one head keeps: the first `sinks` positions, the last `span` positions, and possibly
/// those positions between them that have received the most attention.
struct HeadCache {
    static constexpr int64_t kAll = -1;

    int64_t sinks = 0;
    int64_t span = kAll;  // earlier positions that a query sees besides its own; kAll: all of them
    /// How many earlier positions are kept by score as the text goes on (H2O). Absent: none; then the visible range of
    /// a query is known in advance. When present, a prompt is read completely before any row is dropped.
    std::optional<int64_t> heavy = {};
    /// Number of blocks that every query reads from a block memory (InfLLM). The memory keeps all earlier positions in
    /// blocks of 64, and a query reads the blocks that are most relevant to it as if they were at the edge of the span.
    /// Absent: no memory.
    std::optional<int64_t> chosen_blocks = {};

    bool bounded() const { return span >= 0 && !chosen_blocks; }
    /// True when the rows that a query sees depend on the attention that rows have received.
    bool by_score() const { return heavy || chosen_blocks; }
    /// Positions kept for the next query, not counting a block memory.
    int64_t capacity() const { return sinks + heavy.value_or(0) + span; }
    bool operator==(const HeadCache&) const = default;
};

/// A HeadCache for every (layer, head), and one position rule.
class CachePlan {
  public:
    /// `caches` is [layers, heads]. UserError for invalid numbers; for bounded heads with different numbers of sinks
    /// (an attention mask has one number); and for the rule in_cache with heads that differ, because their caches have
    /// different capacities. Heads that choose by score must all be alike.
    CachePlan(int64_t layers, int64_t heads, std::vector<HeadCache> caches, PositionRule rule);
    /// The same policy in every head: StreamingLLM's caches.
    static CachePlan uniform(const CachePolicy& policy, int64_t layers, int64_t heads);
    /// H2O (Zhang et al. 2023): every head keeps the last `recent` positions, and the `heavy` earlier positions that
    /// have received the most attention. UserError for numbers that keep no recent position.
    static CachePlan heavy_hitters(int64_t heavy, int64_t recent, int64_t layers, int64_t heads);

    int64_t layers() const { return layers_; }
    int64_t heads() const { return heads_; }
    PositionRule rule() const { return rule_; }
    const HeadCache& cache(int64_t layer, int64_t head) const {
        return caches_[static_cast<size_t>(layer * heads_ + head)];
    }

    /// False when a head keeps every position; memory then grows with the text.
    bool bounded() const { return longest_span() != HeadCache::kAll; }
    /// InfLLM (Xiao et al. 2024): every head reads the first `initial` positions, the last `local` positions (the
    /// query's own included), and the `blocks` blocks of 64 positions between them that are most relevant to the query.
    /// UserError for numbers that are not whole blocks, or keep no local position.
    static CachePlan block_memory(int64_t initial, int64_t local, int64_t blocks, int64_t layers, int64_t heads);
    /// True when the rows that a query sees depend on the attention that rows have received.
    bool by_score() const { return caches_.front().by_score(); }
    /// The sinks of the bounded heads; 0 when there are none.
    int64_t sinks() const;
    /// The longest span of all heads; kAll when one keeps every position.
    int64_t longest_span() const;
    /// Positions of the largest cache. Only for a bounded plan.
    int64_t capacity() const { return sinks() + caches_.front().heavy.value_or(0) + longest_span(); }

  private:
    int64_t layers_, heads_;
    std::vector<HeadCache> caches_;
    PositionRule rule_;
};

}  // namespace ballast::infer

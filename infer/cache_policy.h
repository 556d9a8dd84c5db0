// The keys that a streaming cache keeps: exactly the arithmetic of StreamingLLM (Xiao et al. 2024, section 3.2 and
// StartRecentKVCache).
//
// A cache of capacity C = s + r holds the first s positions and the last r positions. Eviction runs after each forward
// step. So a step with a full cache attends to C + 1 keys: the C cached keys and its own key, at cache position C.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::infer {

enum class CacheKind {
    dense,   // keep everything, positions 0, 1, 2, …
    window,  // the last C keys: sink with s = 0
    sink,    // the first s and the last C - s
};

/// "dense", "window", "sink".
std::string_view name_of(CacheKind kind);

struct CachePolicy {
    CacheKind kind = CacheKind::dense;
    int64_t num_sink_positions = 0;  // s
    int64_t recent = 0;              // r

    static CachePolicy dense() { return {}; }
    /// The x + y of the papers' tables: s = x, r = y. UserError without room for at least one recent key.
    static CachePolicy sink(int64_t s, int64_t r);

    bool bounded() const { return kind != CacheKind::dense; }
    int64_t capacity() const { return num_sink_positions + recent; }
    /// "4+1020", "0+1024", "dense".
    std::string name() const;
    bool operator==(const CachePolicy&) const = default;
};

/// Rows [begin, end) of a cache.
struct RowRange {
    int64_t begin = 0, end = 0;
    int64_t size() const { return end - begin; }
    bool operator==(const RowRange&) const = default;
};

/// The rows that stay of n cached rows: `sinks` [0, ..), then `recent`. Together they are all rows when none is
/// evicted.
struct KeptRows {
    RowRange sinks, recent;
    int64_t size() const { return sinks.size() + recent.size(); }
    bool operator==(const KeptRows&) const = default;
};

/// The rows that stay after a forward step left n rows: all of them if n <= C, else [0,s) and [n-r, n).
KeptRows keep_after_forward(int64_t n, const CachePolicy& policy);

}  // namespace ballast::infer

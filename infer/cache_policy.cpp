#include "infer/cache_policy.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::infer {

CachePolicy CachePolicy::sink(int64_t s, int64_t r) {
    if (s < 0 || r < 1)
        throw UserError(
            fmt::format("a cache of {}+{} positions keeps no recent key; give it more positions than sinks", s, r));
    return {s == 0 ? CacheKind::window : CacheKind::sink, s, r};
}

std::string_view name_of(CacheKind kind) {
    switch (kind) {
        case CacheKind::dense: return "dense";
        case CacheKind::window: return "window";
        case CacheKind::sink: return "sink";
    }
    return "?";
}

std::string CachePolicy::name() const {
    return bounded() ? fmt::format("{}+{}", num_sink_positions, recent) : std::string(name_of(kind));
}

KeptRows keep_after_forward(int64_t n, const CachePolicy& policy) { return keep_for_space(n, 0, policy); }

KeptRows keep_for_space(int64_t n, int64_t m, const CachePolicy& policy) {
    const int64_t s = policy.num_sink_positions;
    if (!policy.bounded() || n + m <= policy.capacity()) return {{0, std::min(s, n)}, {std::min(s, n), n}};
    const int64_t begin = std::min(n, n - policy.recent + m);
    return {{0, std::min(s, n)}, {begin, n}};
}

KeptRows keep_outside(int64_t n, RowRange dropped) {
    require(0 <= dropped.begin && dropped.begin <= dropped.end && dropped.end <= n, "a range outside the cache");
    return {{0, dropped.begin}, {dropped.end, n}};
}

}  // namespace ballast::infer

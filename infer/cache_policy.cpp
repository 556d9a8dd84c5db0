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

KeptRows keep_after_forward(int64_t n, const CachePolicy& policy) {
    const int64_t sinks = std::min(policy.num_sink_positions, n);
    if (!policy.bounded() || n <= policy.capacity()) return {{0, sinks}, {sinks, n}};
    return {{0, sinks}, {n - policy.recent, n}};
}

}  // namespace ballast::infer

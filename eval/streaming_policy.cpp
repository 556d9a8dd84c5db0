#include "eval/streaming_policy.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ballast::eval {
namespace {

constexpr const char* kRecompute = "recompute";

const infer::CachePolicy* cache_of(const StreamingPolicy& policy) { return std::get_if<infer::CachePolicy>(&policy); }

}  // namespace

std::string name_of(const StreamingPolicy& policy) {
    const auto* cache = cache_of(policy);
    return cache ? cache->name() : kRecompute;
}

std::string kind_name(const StreamingPolicy& policy) {
    const auto* cache = cache_of(policy);
    return cache ? std::string(infer::name_of(cache->kind)) : kRecompute;
}

int64_t total_positions(const StreamingPolicy& policy) {
    const auto* cache = cache_of(policy);
    return cache ? cache->capacity() : std::get<Recompute>(policy).length;
}

int64_t sink_positions(const StreamingPolicy& policy) {
    const auto* cache = cache_of(policy);
    return cache ? cache->num_sink_positions : std::get<Recompute>(policy).sinks;
}

StreamingPolicy make_policy(const std::string& kind, int64_t sinks, int64_t positions) {
    if (kind == infer::name_of(infer::CacheKind::dense)) return infer::CachePolicy::dense();
    if (sinks < 0 || positions < sinks)
        throw UserError(fmt::format("{} positions, {} of them sinks: there is no such cache", positions, sinks));
    if (kind == kRecompute) return Recompute{positions, sinks};
    if (kind != infer::name_of(infer::CacheKind::window) && kind != infer::name_of(infer::CacheKind::sink))
        throw UserError(fmt::format("the policy \"{}\" is none of dense, window, sink and recompute", kind));
    return infer::CachePolicy::sink(sinks, positions - sinks);
}

}  // namespace ballast::eval

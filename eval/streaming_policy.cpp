#include "eval/streaming_policy.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ballast::eval {
namespace {

constexpr const char *kRecompute = "recompute", *kMixture = "moa";

/// One function for each kind of policy.
template <class... Functions>
struct Cases : Functions... {
    using Functions::operator()...;
};

}  // namespace

std::string name_of(const StreamingPolicy& policy) {
    return std::visit(Cases{[](const infer::CachePolicy& cache) { return cache.name(); },
                            [](const Recompute&) { return std::string(kRecompute); },
                            [](const Mixture&) { return std::string(kMixture); }},
                      policy);
}

std::string kind_name(const StreamingPolicy& policy) {
    const auto* cache = std::get_if<infer::CachePolicy>(&policy);
    return cache != nullptr ? std::string(infer::name_of(cache->kind)) : name_of(policy);
}

int64_t total_positions(const StreamingPolicy& policy) {
    return std::visit(Cases{[](const infer::CachePolicy& cache) { return cache.capacity(); },
                            [](const Recompute& recompute) { return recompute.length; },
                            [](const Mixture& mixture) { return mixture.cache; }},
                      policy);
}

int64_t sink_positions(const StreamingPolicy& policy) {
    return std::visit(Cases{[](const infer::CachePolicy& cache) { return cache.num_sink_positions; },
                            [](const Recompute& recompute) { return recompute.sinks; },
                            [](const Mixture& mixture) { return mixture.sinks; }},
                      policy);
}

StreamingPolicy make_policy(const std::string& kind, int64_t sinks, int64_t positions) {
    if (kind == infer::name_of(infer::CacheKind::dense)) return infer::CachePolicy::dense();
    if (kind == kMixture && sinks >= 0 && positions >= 0) return Mixture{sinks, positions};
    if (sinks < 0 || positions < sinks)
        throw UserError(fmt::format("{} positions, {} of them sinks: there is no such cache", positions, sinks));
    if (kind == kRecompute) return Recompute{positions, sinks};
    if (kind != infer::name_of(infer::CacheKind::window) && kind != infer::name_of(infer::CacheKind::sink))
        throw UserError(fmt::format("the policy \"{}\" is none of dense, window, sink, moa and recompute", kind));
    return infer::CachePolicy::sink(sinks, positions - sinks);
}

}  // namespace ballast::eval

#include "eval/streaming_policy.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ballast::eval {
namespace {

constexpr const char *kRecompute = "recompute", *kMixture = "moa", *kHeavyHitters = "h2o", *kBlockMemory = "infllm";

/// One lambda a kind of policy.
template <class... Cases>
struct Overloaded : Cases... {
    using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

std::string other_name(const StreamingPolicy& policy) {
    if (const auto* scored = std::get_if<Scored>(&policy)) return scored->kind;
    return std::holds_alternative<Recompute>(policy) ? kRecompute : kMixture;
}

const infer::CachePolicy* cache_of(const StreamingPolicy& policy) { return std::get_if<infer::CachePolicy>(&policy); }

}  // namespace

std::string name_of(const StreamingPolicy& policy) {
    const auto* cache = cache_of(policy);
    return cache ? cache->name() : other_name(policy);
}

std::string kind_name(const StreamingPolicy& policy) {
    const auto* cache = cache_of(policy);
    return cache ? std::string(infer::name_of(cache->kind)) : other_name(policy);
}

int64_t total_positions(const StreamingPolicy& policy) {
    return std::visit(Overloaded{[](const infer::CachePolicy& cache) { return cache.capacity(); },
                                 [](const Recompute& recompute) { return recompute.length; },
                                 [](const Mixture& mixture) { return mixture.positions; },
                                 [](const Scored& scored) { return scored.positions; }},
                      policy);
}

int64_t sink_positions(const StreamingPolicy& policy) {
    return std::visit(Overloaded{[](const infer::CachePolicy& cache) { return cache.num_sink_positions; },
                                 [](const Recompute& recompute) { return recompute.sinks; },
                                 [](const Mixture& mixture) { return mixture.sinks; },
                                 [](const Scored& scored) { return scored.sinks; }},
                      policy);
}

StreamingPolicy make_policy(const std::string& kind, int64_t sinks, int64_t positions) {
    if (kind == infer::name_of(infer::CacheKind::dense)) return infer::CachePolicy::dense();
    if (sinks < 0 || positions < sinks)
        throw UserError(fmt::format("{} positions, {} of them sinks: there is no such cache", positions, sinks));
    if (kind == kRecompute) return Recompute{positions, sinks};
    if (kind == kMixture) return Mixture{sinks, positions};
    if (kind == kHeavyHitters || kind == kBlockMemory) return Scored{kind, positions, sinks};
    if (kind != infer::name_of(infer::CacheKind::window) && kind != infer::name_of(infer::CacheKind::sink))
        throw UserError(
            fmt::format("the policy \"{}\" is none of dense, window, sink, moa, h2o, infllm and recompute", kind));
    return infer::CachePolicy::sink(sinks, positions - sinks);
}

}  // namespace ballast::eval

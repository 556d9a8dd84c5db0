#include "infer/policy_table.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "base/error.h"
#include "infer/span_plan.h"

namespace ballast::infer {
namespace {

struct Policy {
    const char* name;
    bool has_sinks, has_cache, has_plan;  // which settings it reads
    CachePlan (*make)(const PolicyChoice&, const model::ModelConfig&, int64_t longest);
};

CachePlan uniform(const CachePolicy& policy, const model::ModelConfig& config) {
    return CachePlan::uniform(policy, config.num_layers, config.num_heads);
}

int64_t positions(const PolicyChoice& choice, const model::ModelConfig& config) {
    return choice.cache > 0 ? choice.cache : config.max_position_embeddings / 2;
}

constexpr int64_t kSinks = 4;  // StreamingLLM's

CachePlan make_dense(const PolicyChoice&, const model::ModelConfig& config, int64_t) {
    return uniform(CachePolicy::dense(), config);
}

CachePlan make_window(const PolicyChoice& choice, const model::ModelConfig& config, int64_t) {
    return uniform(CachePolicy::sink(0, positions(choice, config)), config);
}

CachePlan make_sink(const PolicyChoice& choice, const model::ModelConfig& config, int64_t) {
    const int64_t sinks = choice.sinks >= 0 ? choice.sinks : std::max(kSinks, config.num_sink_tokens);
    return uniform(CachePolicy::sink(sinks, positions(choice, config) - sinks), config);
}

CachePlan make_mixture(const PolicyChoice& choice, const model::ModelConfig& config, int64_t longest) {
    if (choice.plan.empty()) throw UserError("the policy moa needs a plan's file");
    return cache_plan(read_span_plan(choice.plan), config, longest);
}

constexpr std::array kPolicies{
    Policy{"dense", false, false, false, make_dense},
    Policy{"window", false, true, false, make_window},
    Policy{"sink", true, true, false, make_sink},
    Policy{"moa", false, false, true, make_mixture},
};

}  // namespace

std::vector<std::string> policy_names() {
    std::vector<std::string> names;
    for (const Policy& policy : kPolicies) names.emplace_back(policy.name);
    return names;
}

CachePlan make_plan(const PolicyChoice& choice, const model::ModelConfig& config, int64_t longest) {
    const auto found = std::find_if(kPolicies.begin(), kPolicies.end(),
                                    [&](const Policy& policy) { return choice.policy == policy.name; });
    if (found == kPolicies.end())
        throw UserError(
            fmt::format("there is no policy {}; the policies are {}", choice.policy, fmt::join(policy_names(), ", ")));
    const auto refuse = [&](bool has, bool given, const char* setting) {
        if (given && !has) throw UserError(fmt::format("the policy {} has no setting {}", choice.policy, setting));
    };
    refuse(found->has_sinks, choice.sinks >= 0, "sinks");
    refuse(found->has_cache, choice.cache > 0, "cache");
    refuse(found->has_plan, !choice.plan.empty(), "plan");
    return found->make(choice, config, longest);
}

}  // namespace ballast::infer

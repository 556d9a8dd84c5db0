#include "infer/policy_table.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::infer {
namespace {

struct Policy {
    const char* name;
    bool has_sinks, has_cache;  // which settings it reads
    CachePlan (*make)(const PolicyChoice&, const model::ModelConfig&);
};

CachePlan uniform(const CachePolicy& policy, const model::ModelConfig& config) {
    return CachePlan::uniform(policy, config.num_layers, config.num_heads);
}

int64_t positions(const PolicyChoice& choice, const model::ModelConfig& config) {
    return choice.cache > 0 ? choice.cache : config.max_position_embeddings / 2;
}

constexpr int64_t kSinks = 4;  // StreamingLLM's

constexpr std::array kPolicies{
    Policy{"dense", false, false,
           [](const auto&, const auto& config) { return uniform(CachePolicy::dense(), config); }},
    Policy{"window", false, true,
           [](const auto& choice, const auto& config) {
               return uniform(CachePolicy::sink(0, positions(choice, config)), config);
           }},
    Policy{"sink", true, true,
           [](const auto& choice, const auto& config) {
               const int64_t sinks = choice.sinks >= 0 ? choice.sinks : std::max(kSinks, config.num_sink_tokens);
               return uniform(CachePolicy::sink(sinks, positions(choice, config) - sinks), config);
           }},
};

}  // namespace

std::vector<std::string> policy_names() {
    std::vector<std::string> names;
    for (const Policy& policy : kPolicies) names.emplace_back(policy.name);
    return names;
}

CachePlan make_plan(const PolicyChoice& choice, const model::ModelConfig& config) {
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
    return found->make(choice, config);
}

}  // namespace ballast::infer

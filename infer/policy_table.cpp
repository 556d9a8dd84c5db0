#include "infer/policy_table.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "infer/span_plan.h"
#include "kernels/ops.h"

namespace ballast::infer {
namespace {

struct Policy {
    const char* name;
    std::span<const std::string_view> settings;  // that it reads
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

CachePlan make_heavy_hitters(const PolicyChoice& choice, const model::ModelConfig& config, int64_t) {
    const int64_t quarter = config.max_position_embeddings / 4;
    return CachePlan::heavy_hitters(choice.heavy >= 0 ? choice.heavy : quarter,
                                    choice.recent > 0 ? choice.recent : quarter, config.num_layers, config.num_heads);
}

CachePlan make_block_memory(const PolicyChoice& choice, const model::ModelConfig& config, int64_t) {
    constexpr int64_t kRows = ops::kCacheBlockRows;
    const int64_t quarter = std::max<int64_t>(1, config.max_position_embeddings / 4 / kRows);  // in blocks
    return CachePlan::block_memory(choice.sinks >= 0 ? choice.sinks : kRows,
                                   choice.recent > 0 ? choice.recent : quarter * kRows,
                                   choice.blocks >= 0 ? choice.blocks : quarter, config.num_layers, config.num_heads);
}

constexpr std::array<std::string_view, 1> kWindowSettings{"cache"}, kMixtureSettings{"plan"};
constexpr std::array<std::string_view, 2> kSinkSettings{"sinks", "cache"}, kHeavySettings{"heavy", "recent"};
constexpr std::array<std::string_view, 3> kMemorySettings{"sinks", "recent", "blocks"};

constexpr std::array kPolicies{
    Policy{"dense", {}, make_dense},
    Policy{"window", kWindowSettings, make_window},
    Policy{"sink", kSinkSettings, make_sink},
    Policy{"moa", kMixtureSettings, make_mixture},
    Policy{"h2o", kHeavySettings, make_heavy_hitters},
    Policy{"infllm", kMemorySettings, make_block_memory},
};

/// The settings that a user may give, and whether this one did.
std::array<std::pair<std::string_view, bool>, 6> settings_of(const PolicyChoice& choice) {
    return {{{"sinks", choice.sinks >= 0},
             {"cache", choice.cache > 0},
             {"plan", !choice.plan.empty()},
             {"heavy", choice.heavy >= 0},
             {"recent", choice.recent > 0},
             {"blocks", choice.blocks >= 0}}};
}

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
    for (const auto& [setting, given] : settings_of(choice))
        if (given && std::ranges::find(found->settings, setting) == found->settings.end())
            throw UserError(fmt::format("the policy {} has no setting {}", choice.policy, setting));
    return found->make(choice, config, longest);
}

}  // namespace ballast::infer

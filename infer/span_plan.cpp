#include "infer/span_plan.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::infer {
namespace {

constexpr double kLargestAlpha = 1LL << 40;          // whole numbers of this size and their sums are exact in a double
constexpr int64_t kLongest = int64_t{1} << 40;       // positions of anything, so that sums of them stay numbers
constexpr int64_t kLargestBlock = int64_t{1} << 30;  // what a cache keeps at least: attention's spans have 32 bits

int64_t round_up(int64_t count, int64_t block) { return (count + block - 1) / block * block; }

/// Before anything is clipped.
double asked_size(const SpanRule& rule, int64_t N) { return rule.alpha + rule.beta * static_cast<double>(N); }

int64_t size_at(const SpanPlan& plan, int64_t layer, int64_t entry, int64_t N) {
    return cache_size(plan.rule(layer, entry), plan.block, plan.sinks, N);
}

void check_rule(const SpanPlan& plan, int64_t layer, int64_t entry, const std::string& place) {
    const SpanRule& rule = plan.rule(layer, entry);
    if (!(std::abs(rule.alpha) <= kLargestAlpha))
        throw UserError(fmt::format("{}: an alpha of {} is no number of positions", place, rule.alpha));
    if (!(rule.beta >= 0 && rule.beta <= 1))
        throw UserError(fmt::format("{}: a beta of {} is no share of a text; it lies in [0,1]", place, rule.beta));
    if (std::fmod(rule.alpha, static_cast<double>(plan.block)) != 0)
        throw UserError(fmt::format("{}: the block of {} positions does not divide the alpha of {}", place, plan.block,
                                    rule.alpha));
    // Where no range is said, a rule that grows will pass the sinks at some length.
    if (!plan.range && rule.beta > 0) return;
    const int64_t N = plan.range ? plan.range->shortest : 0;
    if (asked_size(rule, N) < static_cast<double>(plan.sinks + plan.block))
        throw UserError(fmt::format(
            "{}: a cache of {} positions at length {} has no room for {} sinks and a block of {}; raise the rule "
            "or keep fewer sinks",
            place, asked_size(rule, N), N, plan.sinks, plan.block));
}

std::string shape_name(int64_t layers, const std::string& entries) {
    return fmt::format("{} layers of {}", layers, entries);
}

/// The plan's entry that query head h of H goes by.
int64_t entry_of(const SpanPlan& plan, int64_t h, int64_t H) { return h / (H / plan.entries); }

void require_fits(const SpanPlan& plan, const model::ModelConfig& config) {
    const PlanShape model = PlanShape::of(config);
    const std::string has =
        shape_name(model.layers, model.heads == model.kv_heads
                                     ? fmt::format("{} heads", model.heads)
                                     : fmt::format("{} heads on {} key-value heads", model.heads, model.kv_heads));
    if (plan.layers != model.layers || (plan.entries != model.heads && plan.entries != model.kv_heads))
        throw UserError(fmt::format("the plan is for {}, the model has {}; make a plan of this model",
                                    shape_name(plan.layers, fmt::format("{} heads", plan.entries)), has));
    if (plan.shape && *plan.shape != model)
        throw UserError(fmt::format(
            "the plan is for {}, the model has {}; make a plan of this model",
            shape_name(plan.shape->layers,
                       fmt::format("{} heads on {} key-value heads", plan.shape->heads, plan.shape->kv_heads)),
            has));
}

}  // namespace

void SpanPlan::validate(const std::string& source) const {
    require(layers > 0 && entries > 0 && static_cast<int64_t>(rules.size()) == layers * entries,
            "a plan has a rule for every entry");
    const auto require_length = [&](int64_t positions, int64_t least, int64_t most, const char* what) {
        if (positions < least || positions > most)
            throw UserError(fmt::format("{}: {} of {} positions is impossible", source, what, positions));
    };
    if (block < 1) throw UserError(fmt::format("{}: a block of {} positions holds nothing", source, block));
    if (sinks < 0 || sinks % block != 0)
        throw UserError(
            fmt::format("{}: the block of {} positions does not divide the {} sinks", source, block, sinks));
    require_length(block, 1, kLargestBlock, "a block");
    require_length(sinks, 0, kLargestBlock, "a number of sinks");
    for (const PlanFigure& figure : figures) require_length(figure.length, 1, kLongest, "a figure's length");
    if (shape && (shape->layers != layers || shape->kv_heads < 1 || shape->heads < shape->kv_heads ||
                  (entries != shape->heads && entries != shape->kv_heads)))
        throw UserError(fmt::format("{}: {} layers of {} rules cannot be of a model of {} layers of {} heads on {}",
                                    source, layers, entries, shape->layers, shape->heads, shape->kv_heads));
    if (range && (range->shortest < 1 || range->longest < range->shortest))
        throw UserError(fmt::format("{}: there are no lengths from {} to {}", source, range->shortest, range->longest));
    if (range) require_length(range->longest, 1, kLongest, "a longest text");
    for (int64_t l = 0; l < layers; ++l)
        for (int64_t e = 0; e < entries; ++e)
            check_rule(*this, l, e, fmt::format("{}: layer {}, head {}", source, l, e));
}

int64_t cache_size(const SpanRule& rule, int64_t block, int64_t sinks, int64_t N) {
    const double asked = std::min(std::floor(asked_size(rule, N)), static_cast<double>(N));
    return round_up(std::max(static_cast<int64_t>(asked), sinks + block), block);
}

int64_t span_at(const SpanPlan& plan, int64_t layer, int64_t entry, int64_t N) {
    return size_at(plan, layer, entry, N) - plan.sinks - 1;
}

int64_t kept_rows(const SpanPlan& plan, int64_t layer, int64_t g, int64_t kv_heads, int64_t N) {
    const int64_t group = plan.entries / kv_heads;  // entries of a key-value head; their rows begin alike and nest
    int64_t rows = 0;
    for (int64_t e = g * group; e < (g + 1) * group; ++e) rows = std::max(rows, size_at(plan, layer, e, N));
    return std::min(rows, N);
}

double memory_density(const SpanPlan& plan, int64_t kv_heads, int64_t N) {
    int64_t rows = 0;
    for (int64_t l = 0; l < plan.layers; ++l)
        for (int64_t g = 0; g < kv_heads; ++g) rows += kept_rows(plan, l, g, kv_heads, N);
    return static_cast<double>(rows) / static_cast<double>(plan.layers * kv_heads * N);
}

double attention_density(const SpanPlan& plan, int64_t N) { return memory_density(plan, plan.entries, N); }

CachePlan cache_plan(const SpanPlan& plan, const model::ModelConfig& config, int64_t N) {
    require(N > 0, "a text of no positions");
    require_fits(plan, config);
    if (plan.range && N > plan.range->longest)
        throw UserError(fmt::format(
            "{} positions are more than the {} that the plan was made for; shorten the text, its answer included, or "
            "make a plan for this length",
            N, plan.range->longest));
    if (N > config.max_position_embeddings)
        throw UserError(fmt::format(
            "{} positions are more than the {} that the model was trained on, and a plan does not make a model "
            "reach further; choose at most {}, or the policy sink",
            N, config.max_position_embeddings, config.max_position_embeddings));
    std::vector<HeadCache> caches;
    for (int64_t l = 0; l < config.num_layers; ++l)
        for (int64_t h = 0; h < config.num_heads; ++h)
            caches.push_back({plan.sinks, span_at(plan, l, entry_of(plan, h, config.num_heads), N)});
    return {config.num_layers, config.num_heads, std::move(caches), PositionRule::absolute};
}

}  // namespace ballast::infer

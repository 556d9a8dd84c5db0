// Mixtures of attention spans: the elastic rule's arithmetic, densities, files and what is refused.
#include "infer/span_plan.h"

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "infer/masked_stream.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

SpanPlan plan_of(int64_t layers, int64_t entries, std::vector<SpanRule> rules, int64_t block = 64) {
    SpanPlan plan;
    plan.layers = layers;
    plan.entries = entries;
    plan.rules = std::move(rules);
    plan.block = plan.sinks = block;
    return plan;
}

model::ModelConfig grouped_config(int64_t layers, int64_t heads, int64_t kv_heads) {
    model::ModelConfig config = tiny_config();
    config.num_layers = layers;
    config.num_heads = heads;
    config.num_key_value_heads = kv_heads;
    config.max_position_embeddings = 4096;
    return config;
}

std::string refusal_of_file(const std::string& text, const std::string& name = "plan.json") {
    const TemporaryFolder folder;
    write_file(folder / name, text);
    return message_of([&] { read_span_plan(folder / name); });
}

}  // namespace

TEST_CASE("span plan: caches are alpha + beta N, clipped and in whole blocks, as the MoA project rounds them",
          "[cpu]") {
    CHECK(cache_size({0, 0.5}, 64, 64, 2048) == 1024);
    CHECK(cache_size({-1024, 0.625}, 64, 64, 2048) == 256);
    CHECK(cache_size({1024, 0.125}, 64, 64, 4096) == 1536);
    CHECK(cache_size({0, 0.5}, 64, 64, 2050) == 1088);     // 1025, rounded up
    CHECK(cache_size({0, 0.5}, 64, 64, 2049) == 1024);     // 1024.5 is 1024 first
    CHECK(cache_size({4096, 0.5}, 64, 64, 2048) == 2048);  // not more than the text
    CHECK(cache_size({4096, 0.5}, 64, 64, 2000) == 2048);  // but whole blocks of it
    CHECK(cache_size({-4096, 0.5}, 64, 64, 2048) == 128);  // not less than the sinks and a block
    CHECK(cache_size({-4096, 0.5}, 16, 48, 2048) == 64);
    const SpanPlan plan = plan_of(1, 1, {{0, 0.5}});
    CHECK(span_at(plan, 0, 0, 2048) == 1024 - 64 - 1);  // the sinks and the query's own row are inside
}

TEST_CASE("span plan: densities count rows of key-value heads, or what queries see", "[cpu]") {
    const SpanPlan half = plan_of(2, 4, std::vector<SpanRule>(8, {0, 0.5}));  // the MoA project's uniform baseline
    for (const int64_t N : {2048, 4096, 8192, 16384}) {
        CHECK(memory_density(half, 4, N) == 0.5);
        CHECK(attention_density(half, N) == 0.5);
    }
    // Two key-value heads of two query heads: a row stays while one of the two spans it.
    const SpanPlan mixed = plan_of(1, 4, {{0, 0.75}, {0, 0.25}, {0, 0.125}, {0, 0.25}});
    CHECK(kept_rows(mixed, 0, 0, 2, 2048) == 1536);
    CHECK(kept_rows(mixed, 0, 1, 2, 2048) == 512);
    CHECK(memory_density(mixed, 2, 2048) == 0.5);
    CHECK(attention_density(mixed, 2048) == 0.34375);
    CHECK(memory_density(mixed, 4, 100) == 1.0);  // never more than the text has
}

TEST_CASE("span plan: query heads have their own spans, or their group's", "[cpu]") {
    const auto config = grouped_config(2, 4, 2);
    const CachePlan groups = cache_plan(plan_of(2, 2, {{0, 0.5}, {0, 0.25}, {128, 0}, {0, 1}}), config, 1024);
    CHECK(groups.rule() == PositionRule::absolute);
    const std::vector<int64_t> wanted{447, 447, 191, 191, 63, 63, 959, 959};
    for (int64_t i = 0; i < 8; ++i) CHECK(groups.cache(i / 4, i % 4) == HeadCache{64, wanted[static_cast<size_t>(i)]});
    const CachePlan heads = cache_plan(
        plan_of(2, 4, {{0, 0.5}, {0, 0.25}, {128, 0}, {0, 1}, {0, 1}, {128, 0}, {0, 0.25}, {0, 0.5}}), config, 1024);
    CHECK(heads.cache(0, 1).span == 191);
    CHECK(heads.cache(1, 0).span == 959);
    CHECK(heads.longest_span() == 959);
}

TEST_CASE("span plan: heads that keep all of a text see what a dense model sees", "[cpu]") {
    Context context(Device::cpu, 1);
    model::Transformer model(context, tiny_config(), Dtype::f32);
    randomise(context, model.weights(), 5, 0.4);
    const std::vector<int32_t> ids = random_ids(3, 64, 23);
    const auto losses = [&](const CachePlan& caches) {
        MaskedStream stream(context, model, caches, 16);
        std::vector<float> out;
        std::vector<int32_t> targets(ids.begin() + 1, ids.end());
        targets.push_back(-1);
        stream.feed(ids, targets, out);
        return std::vector<double>(out.begin(), out.end());
    };
    const auto dense = losses(CachePlan::uniform(CachePolicy::dense(), 2, 2));
    CHECK(relative_error(losses(cache_plan(plan_of(2, 2, std::vector<SpanRule>(4, {0, 1}), 4), model.config(), 64)),
                         dense) < 1e-5);
    CHECK(relative_error(losses(cache_plan(plan_of(2, 2, {{0, 1}, {0, 1}, {0, 1}, {0, 0.5}}, 4), model.config(), 64)),
                         dense) > 1e-4);
}

TEST_CASE("span plan: a model of another shape, and texts that are too long, are refused", "[cpu]") {
    const auto config = grouped_config(2, 4, 2);
    const auto refusal = [&](SpanPlan plan, int64_t N) { return message_of([&] { cache_plan(plan, config, N); }); };
    SpanPlan plan = plan_of(2, 4, std::vector<SpanRule>(8, {0, 0.5}));
    CHECK(refusal(plan, 4096).empty());
    CHECK_THAT(refusal(plan, 4097), ContainsSubstring("4096 that the model was trained on"));
    plan.range = LengthRange{512, 2048};
    CHECK(refusal(plan, 2048).empty());
    CHECK(refusal(plan, 100).empty());  // shorter ones are clipped to the least a head keeps
    CHECK_THAT(refusal(plan, 2049), ContainsSubstring("more than the 2048 that the plan was made for"));
    plan.shape = PlanShape{2, 4, 4};
    CHECK_THAT(refusal(plan, 2048), ContainsSubstring("4 heads on 4 key-value heads, the model has 2 layers of 4"));
    CHECK_THAT(refusal(plan_of(3, 4, std::vector<SpanRule>(12)), 512), ContainsSubstring("3 layers of 4 heads"));
    CHECK_THAT(refusal(plan_of(2, 1, std::vector<SpanRule>(2)), 512), ContainsSubstring("2 layers of 1 heads"));
}

TEST_CASE("span plan: files come back as they were, and the MoA project's are read", "[cpu]") {
    const TemporaryFolder folder;
    SpanPlan plan = plan_of(2, 2, {{-256, 0.625}, {0, 0.125}, {512, 0}, {0, 1}}, 32);
    plan.sinks = 64;
    plan.shape = PlanShape{2, 4, 2};
    plan.range = LengthRange{1024, 4096};
    plan.figures = {{1024, 0.5, 0.25}, {4096, 0.4375, std::nullopt}};
    write_span_plan(folder / "plan.json", plan);
    CHECK(read_span_plan(folder / "plan.json") == plan);
    // A name under which it would be read as something else.
    CHECK_THAT(message_of([&] { write_span_plan(folder / "plan.tsv", plan); }),
               ContainsSubstring("plan.tsv") && ContainsSubstring("ends in .json"));
    write_file(folder / "theirs.json", R"({"alphas": [[-1024.0, 0.0]], "betas": [[0.625, 1]]})");
    CHECK(read_span_plan(folder / "theirs.json") == plan_of(1, 2, {{-1024, 0.625}, {0, 1}}));
}

TEST_CASE("span plan: hostile files are refused by name and place", "[cpu]") {
    const auto with = [](const std::string& more, const std::string& alphas = "[[0,64]]") {
        return refusal_of_file(fmt::format(R"({{"alphas": {}, "betas": [[0.5,1]]{}}})", alphas, more));
    };
    CHECK(with("").empty());
    const std::vector<std::pair<std::string, const char*>> cases{
        {refusal_of_file(""), "not valid JSON"},
        {refusal_of_file("[]"), "a JSON object"},
        {refusal_of_file("{}"), "\"alphas\" must be a list"},
        {refusal_of_file(R"({"alphas": [[0]]})"), "\"betas\" must be a list"},
        {refusal_of_file(R"({"alphas": [], "betas": []})"), "\"alphas\" must be a list"},
        {refusal_of_file(R"({"alphas": [[]], "betas": [[]]})"), "\"alphas\"[0] must be"},
        {refusal_of_file(R"({"alphas": [[0],[0]], "betas": [[0]]})"), "\"alphas\" is 2 by 1"},
        {with("", "[[0,1],[0]]"), "\"alphas\"[1]"},
        {with("", "[[0,\"1\"]]"), "\"alphas\"[0]"},
        {with("", "[[0,null]]"), "\"alphas\"[0]"},
        {with("", "[[0,1e300]]"), "an alpha of 1e+300"},
        {with("", "[[0,-1e999]]"), "not valid JSON"},
        {with("", "[[0,65]]"), "block of 64 positions does not divide the alpha of 65"},
        {refusal_of_file(R"({"alphas": [[0]], "betas": [[1.5]]})"), "a beta of 1.5"},
        {refusal_of_file(R"({"alphas": [[0]], "betas": [[-0.5]]})"), "a beta of -0.5"},
        {refusal_of_file(R"({"alphas": [[64]], "betas": [[0]]})"), "a cache of 64 positions at length 0"},
        {with(R"(, "block": 0)"), "a block of 0"},
        {with(R"(, "block": -64)"), "a block of -64"},
        {with(R"(, "block": 1.5)"), "\"block\" must be a whole number"},
        {with(R"(, "block": 18446744073709551615)"), "\"block\" must be a whole number"},
        {with(R"(, "block": 8589934656)"), "a block of 8589934656 positions is impossible"},
        {with(R"(, "sinks": 8589934592)"), "a number of sinks of 8589934592 positions is impossible"},
        {with(R"(, "sinks": 32)"), "does not divide the 32 sinks"},
        {with(R"(, "model": 7)"), "model: \"layers\" must be"},
        {with(R"(, "length_range": [64])"), "two whole numbers"},
        {with(R"(, "length_range": [2048, 1024])"), "no lengths from 2048 to 1024"},
        {with(R"(, "length_range": [128, 1024])"), "layer 0, head 0: a cache of 64 positions at length 128"},
        {with(R"(, "figures": {})"), "\"figures\" must be a list"},
        {with(R"(, "figures": [{"length": 7}])"), "\"density\" must be a number"},
    };
    for (const auto& [message, part] : cases) {
        CAPTURE(part);
        CHECK_THAT(message, ContainsSubstring("plan.json") && ContainsSubstring(part));
    }
}

TEST_CASE("span plan: DuoAttention's scores are full heads and sinks with a window", "[cpu]") {
    const TemporaryFolder folder;
    write_file(folder / "heads.tsv", "1.000000000000000000e+00\t4.9e-01\n\n0.5\t-0.25\r\n");
    const SpanPlan plan = read_span_plan(folder / "heads.tsv");
    CHECK(plan == plan_of(2, 2, {{0, 1}, {320, 0}, {0, 1}, {320, 0}}));
    CHECK(memory_density(plan, 2, 1280) == 0.625);
    const SpanPlan other =
        read_duo_plan(folder / "heads.tsv", {.threshold = 0.25, .sinks = 16, .recent = 48, .block = 16});
    CHECK(other.rules == std::vector<SpanRule>{{0, 1}, {0, 1}, {0, 1}, {64, 0}});
    CHECK_THAT(refusal_of_file("0.5\t0.5\n0.5\n", "a.tsv"), ContainsSubstring("a.tsv:2: 1 heads"));
    CHECK_THAT(refusal_of_file("0.5\tx\n", "a.tsv"), ContainsSubstring("a.tsv:1: not a number"));
    CHECK_THAT(refusal_of_file("0.5\tnan\n", "a.tsv"), ContainsSubstring("a.tsv:1: not a number"));
    CHECK_THAT(refusal_of_file(" \n", "a.tsv"), ContainsSubstring("no scores"));
}

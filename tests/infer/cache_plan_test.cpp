// Plans whose heads keep different spans: their arithmetic, and the masked stream against one plain pass.
#include "infer/cache_plan.h"
#include "infer/masked_stream.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kAll = HeadCache::kAll;

CachePlan plan_of(std::vector<HeadCache> caches, PositionRule rule = PositionRule::absolute) {
    return {2, 2, std::move(caches), rule};  // the tiny model's layers and heads
}

struct PlannedStream {
    std::vector<int32_t> tokens = random_ids(21, 90, 23), targets{tokens.begin() + 1, tokens.end()};
    PlannedStream() { targets.push_back(-1); }
};

struct Model {
    Context context{test_device(), 2};
    model::Transformer model;

    explicit Model(model::Position position) : model(context, config(position), Dtype::f32) {
        randomise(context, model.weights(), 9, 0.4);
    }
    static model::ModelConfig config(model::Position position) {
        auto config = tiny_config();
        config.position = position;
        config.rotary_pct = position == model::Position::rope ? 0.5 : 0.0;
        return config;
    }

    std::vector<double> by_stream(const CachePlan& plan, const PlannedStream& s, int64_t chunk) {
        MaskedStream stream(context, model, plan, chunk);
        std::vector<float> losses;
        stream.feed(s.tokens, s.targets, losses);
        return {losses.begin(), losses.end()};
    }

    /// All of the text in one pass, every key at its place in it: the rule `absolute` as it is written down.
    std::vector<double> in_one_pass(const CachePlan& plan, const PlannedStream& s) {
        const auto T = static_cast<int64_t>(s.tokens.size());
        const int64_t heads = plan.heads(), D = model.config().head_dim();
        model.positions().ensure(context, T);
        const DeviceBuffer buffer =
            context.allocate(model::Pass::activation_bytes(model.config(), Dtype::f32, model::PassKind::forward, 1, T));
        Arena arena(buffer.data(), buffer.bytes());
        model::Activations a(arena, model.config(), Dtype::f32, model::PassKind::forward, 1, T);
        context.scratch().reserve(
            model::Pass::scratch_bytes(context, model.config(), Dtype::f32, model::PassKind::forward, 1, T));
        context.copy_from_host(a.ids, s.tokens.data());
        context.copy_from_host(a.targets, s.targets.data());
        const DeviceBuffer keys_buffer = context.allocate(static_cast<size_t>(2 * T * heads * D) * sizeof(float)),
                           span_buffer = context.allocate(static_cast<size_t>(heads) * sizeof(int32_t));
        const Tensor both(keys_buffer.data(), Dtype::f32, {2, T, heads, D});
        const Tensor span(span_buffer.data(), Dtype::i32, {heads});
        model.forward_layers(context, a, [&](int64_t l, const Tensor& qkv, const model::LayerActivations& layer) {
            std::vector<int32_t> spans;
            for (int64_t h = 0; h < heads; ++h) spans.push_back(static_cast<int32_t>(plan.cache(l, h).span));
            context.copy_from_host(span, spans.data());
            const Tensor keys = both.slice(0, 0, 1), values = both.slice(0, 1, 2);
            ops::qkv_split_rope_forward(context, layer.q, keys, values, qkv, model.positions().rope(), {});
            auto params = model.attention(l);
            params.mask.num_sink_positions = params.mask.key_start = plan.sinks();
            params.mask.span_H = span;
            ops::attention_forward(context, layer.attention_out, layer.lse, {layer.q, keys, values, Tensor{}}, params);
        });
        model.head_losses(context, a.losses, a.final_out, a.targets);
        return to_host(context, a.losses);
    }
};

}  // namespace

TEST_CASE("cache plan: a policy in every head") {
    const auto sinks = CachePlan::uniform(CachePolicy::sink(4, 60), 2, 3);
    CHECK(sinks.rule() == PositionRule::in_cache);
    CHECK(sinks.bounded());
    CHECK(sinks.sinks() == 4);
    CHECK(sinks.longest_span() == 60);
    CHECK(sinks.capacity() == 64);
    CHECK(sinks.cache(1, 2) == HeadCache{4, 60});
    const auto dense = CachePlan::uniform(CachePolicy::dense(), 2, 3);
    CHECK_FALSE(dense.bounded());
    CHECK(dense.sinks() == 0);
}

TEST_CASE("cache plan: heads that differ") {
    const auto plan = plan_of({{2, 5}, {2, 9}, {2, 1}, {2, 5}});
    CHECK(plan.longest_span() == 9);
    CHECK(plan.capacity() == 11);
    CHECK(plan.cache(1, 0).span == 1);
    const auto dense_head = plan_of({{0, kAll}, {2, 9}, {2, 1}, {0, kAll}});
    CHECK_FALSE(dense_head.bounded());
    CHECK(dense_head.sinks() == 2);
}

TEST_CASE("cache plan: what means nothing is refused, by layer and head") {
    const auto refusal = [](std::vector<HeadCache> caches, PositionRule rule = PositionRule::absolute) {
        return message_of([&] { plan_of(std::move(caches), rule); });
    };
    CHECK_THAT(refusal({{2, 5}, {2, 5}, {2, 5}, {-1, 5}}), ContainsSubstring("layer 1, head 1"));
    CHECK_THAT(refusal({{2, 5}, {2, -2}, {2, 5}, {2, 5}}), ContainsSubstring("layer 0, head 1"));
    CHECK_THAT(refusal({{2, 5}, {2, 5}, {3, 5}, {2, 5}}), ContainsSubstring("layer 1, head 0 keeps 3 sinks"));
    CHECK_THAT(refusal({{2, 5}, {2, 6}, {2, 5}, {2, 5}}, PositionRule::in_cache), ContainsSubstring("one size"));
    CHECK_THROWS_AS(plan_of({{2, 5}}), InternalError);
}

TEST_CASE("a plan in a masked stream equals one pass under its mask, in chunks of any size") {
    const PlannedStream s;
    for (const auto position : {model::Position::rope, model::Position::alibi, model::Position::none}) {
        Model m(position);
        for (const CachePlan& plan :
             {plan_of({{2, 5}, {2, 9}, {2, 1}, {2, 30}}), plan_of({{0, 5}, {0, 12}, {0, 1}, {0, 3}}),
              plan_of({{3, 7}, {0, kAll}, {3, 0}, {3, 7}}), plan_of({{0, kAll}, {0, kAll}, {1, 4}, {1, 4}})}) {
            const auto whole = m.in_one_pass(plan, s);
            for (const int64_t chunk : {1, 7, 32, 128}) {
                INFO("position " << static_cast<int>(position) << " span " << plan.cache(0, 0).span << " chunk "
                                 << chunk);
                const auto streamed = m.by_stream(plan, s, chunk);
                REQUIRE(streamed.size() == whole.size());
                for (size_t i = 0; i < whole.size(); ++i) CHECK(streamed[i] == Approx(whole[i]).margin(1e-4));
            }
        }
    }
}

TEST_CASE("every head's span and the position rule matter") {
    const PlannedStream s;
    Model m(model::Position::rope);
    const std::vector<HeadCache> same(4, {2, 5});
    const auto base = m.by_stream(plan_of(same), s, 32);
    for (size_t head = 0; head < same.size(); ++head) {
        std::vector<HeadCache> changed = same;
        changed[head].span = 6;
        CHECK(relative_error(m.by_stream(plan_of(changed), s, 32), base) > 1e-3);
    }
    CHECK(relative_error(m.by_stream(plan_of(same, PositionRule::in_cache), s, 32), base) > 1e-3);
    Model none(model::Position::none);  // without positions the rules are one
    CHECK(relative_error(none.by_stream(plan_of(same, PositionRule::in_cache), s, 32),
                         none.by_stream(plan_of(same), s, 32)) < 1e-6);
}

// The paged cache against the oracles: the literal cache and the masked stream for every family, one pass under a mask
// in f64.
#include "infer/cached_model.h"
#include "infer/decoder.h"
#include "infer/masked_stream.h"
#include "model/rope_rows.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/infer/cached_losses.h"
#include "tests/model/family_configs.h"

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<double> literal_losses(Context& context, model::Transformer& model, const CachePolicy& policy,
                                   const ScoredText& s) {
    Decoder decoder(context, model, policy, std::ssize(s.tokens));
    std::vector<double> losses;
    for (size_t i = 0; i < s.tokens.size(); ++i) {
        decoder.feed({&s.tokens[i], 1});
        losses.push_back(s.targets[i] < 0 ? 0 : decoder.loss(s.targets[i]));
    }
    return losses;
}

std::vector<double> stream_losses(Context& context, model::Transformer& model, const CachePlan& plan,
                                  const ScoredText& s) {
    MaskedStream stream(context, model, plan, 23);
    std::vector<float> losses;
    stream.feed(s.tokens, s.targets, losses);
    return {losses.begin(), losses.end()};
}

/// Spans that differ between heads and layers, some of which keep everything.
CachePlan ragged(const model::ModelConfig& config, int64_t sinks, int64_t scale, bool bounded) {
    std::vector<HeadCache> heads;
    const int64_t count = config.num_layers * config.num_heads;
    for (int64_t i = 0; i < count; ++i)
        heads.push_back(!bounded && i == count / 2 ? HeadCache{0, HeadCache::kAll}
                                                   : HeadCache{sinks, scale * (i * 5 % 7)});
    return {config.num_layers, config.num_heads, heads, PositionRule::absolute};
}

}  // namespace

TEST_CASE("families: paged cache = masked stream = literal cache for every token", "[not_cuda]") {
    constexpr size_t kTokens = 60;
    size_t which = 0;
    for (const auto& [name, config] : family_configs()) {
        if (model::rope_depends_on_length(config)) continue;  // the next test
        Context context(test_device(), 2);
        model::Transformer model(context, config, Dtype::f32, model::WeightUse::inference);
        randomise(context, model.weights(), 11);
        const ScoredText s(5, kTokens, config.num_sink_tokens > 0 ? config.sink_token_id : config.vocab_size);
        const auto uniform = [&, layers = config.num_layers, heads = config.num_heads](const CachePolicy& policy) {
            return CachePlan::uniform(policy, layers, heads);
        };
        for (const CachePolicy& policy : {CachePolicy::dense(), CachePolicy::sink(0, 7), CachePolicy::sink(2, 9)}) {
            const int64_t prompt = std::array{int64_t{1}, int64_t{29}, int64_t{60}}[which % 3];
            INFO(name << ", " << policy.name() << ", prompt of " << prompt);
            CachedModel cached(context, model, uniform(policy), {.prefill_chunk = which++ % 2 == 0 ? 8 : 13});
            const auto paged = cached_losses(context, model, cached, s, prompt);
            CHECK(largest_difference(paged, literal_losses(context, model, policy, s)) <= 1e-4);
            CHECK(largest_difference(paged, stream_losses(context, model, uniform(policy), s)) <= 1e-4);
            CHECK(cached.free_blocks() == cached.sizes().options.blocks);
        }
        for (const bool bounded : {true, false}) {
            const CachePlan plan = ragged(config, 2, 3, bounded);
            INFO(name << ", ragged plan");
            CachedModel cached(context, model, plan, {.prefill_chunk = 16});
            CHECK(largest_difference(cached_losses(context, model, cached, s, 25),
                                     stream_losses(context, model, plan, s)) <= 1e-4);
        }
    }
}

TEST_CASE("paged cache = one pass under the plan's mask, exactly", "[not_cuda]") {
    if (!has_f64()) return;
    const ScoredText s(21, 230, 23);  // more than three blocks, and than three times most rings
    for (const auto position : {model::Position::rope, model::Position::alibi}) {
        const auto config = llama_with(position, {0, 150});
        Context context(test_device(), 2);
        model::Transformer model(context, config, Dtype::f64);
        randomise(context, model.weights(), 9, 0.4);
        const auto uniform = [&](const CachePolicy& policy) { return CachePlan::uniform(policy, 2, 4); };
        for (const CachePlan& plan :
             {uniform(CachePolicy::dense()), uniform(CachePolicy::sink(0, 16)), uniform(CachePolicy::sink(3, 66)),
              ragged(config, 4, 13, true), ragged(config, 1, 9, false)})
            for (const int64_t prompt : {1, 77, 230}) {
                INFO("position " << static_cast<int>(position) << " sinks " << plan.sinks() << " span "
                                 << plan.longest_span() << " prompt " << prompt);
                CachedModel cached(context, model, plan, {.prefill_chunk = 32});
                CHECK(largest_difference(cached_losses(context, model, cached, s, prompt),
                                         masked_losses(context, model, plan, s)) <= 1e-10);
            }
    }
}

TEST_CASE("paged cache: angles that depend on the text's length stay as they were trained, or are refused") {
    auto config = tiny_llama();
    config.rope_scaling.kind = model::RopeScalingKind::dynamic;
    config.rope_scaling.factor = 2;
    config.max_position_embeddings = 8;
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32, model::WeightUse::inference);
    randomise(context, model.weights(), 11);
    const ScoredText s(5, 40, 23);
    const auto plan = [&](int64_t recent) { return CachePlan::uniform(CachePolicy::sink(2, recent), 2, 4); };
    CachedModel cached(context, model, plan(5), {.prefill_chunk = 16});
    CHECK(largest_difference(cached_losses(context, model, cached, s, 30), stream_losses(context, model, plan(5), s)) <=
          1e-4);
    const auto refusal = [&](const CachePlan& refused, const CacheOptions& options = {}) {
        return message_of([&] { CachedModel(context, model, refused, options); });
    };
    CHECK_THAT(refusal(plan(6)), ContainsSubstring("dynamic"));
    CHECK_THAT(refusal(plan(7)), ContainsSubstring("a cache of 9 positions is larger than the 8"));
    CHECK_THAT(refusal(CachePlan::uniform(CachePolicy::dense(), 2, 4), {.max_positions = 9}),
               ContainsSubstring("longer than the 8 the model was trained on"));
}

TEST_CASE("paged cache: a narrower cache costs its rounding only, and its memory is what was planned") {
    auto config = tiny_llama();
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const ScoredText s(21, 60, 23);
    const auto plan = CachePlan::uniform(CachePolicy::sink(2, 9), 2, 4);
    const CacheOptions options{.max_batch = 3, .prefill_chunk = 16, .dtype = Dtype::bf16};
    const CacheSizes sizes(config, Dtype::f32, plan, options);
    // 3 texts, 2 layers, 2 key-value heads, 12 rows each: a block. Its 64 rows have 2 * 8 bf16 and an i32.
    CHECK(sizes.options.blocks == 3 * 2 * 2);
    CHECK(sizes.block_bytes() == 64 * (2 * 8 * 2 + 4));
    CHECK(sizes.cache_bytes(1000) == 4 * sizes.block_bytes());
    CHECK(sizes.dense_bytes(1000) == 4 * 16 * sizes.block_bytes());
    CHECK(CachedModel::memory(context, config, Dtype::f32, Dtype::f32, sizes).front().second ==
          12 * sizes.block_bytes());
    CHECK(total_bytes(CachedModel::memory(context, config, Dtype::f32, Dtype::f32, sizes)) > 12 * sizes.block_bytes());

    const auto with_chunk = [&](int64_t chunk, int64_t positions) {
        const CacheSizes of(config, Dtype::f32, plan, {.prefill_chunk = chunk, .max_positions = positions});
        return total_bytes(CachedModel::memory(context, config, Dtype::f32, Dtype::f32, of));
    };
    CHECK(with_chunk(1 << 20, 40) == with_chunk(40, 40));  // no chunk is longer than the text
    CHECK(with_chunk(40, 40) > with_chunk(20, 40));

    for (const auto& [of_model, of_cache] : {std::pair{Dtype::bf16, Dtype::f32}, {Dtype::bf16, Dtype::f16}})
        CHECK_THAT(message_of([&] { CacheSizes(config, of_model, plan, {.dtype = of_cache}); }),
                   ContainsSubstring("a model in bf16 cannot read a cache in"));

    CachedModel narrow(context, model, plan, options);
    const size_t scratch = context.scratch().capacity();
    const auto losses = cached_losses(context, model, narrow, s, 30);
    CHECK(context.scratch().capacity() == scratch);
    const double error = relative_error(losses, stream_losses(context, model, plan, s));
    CHECK(error <= 2e-2);
    CHECK(error > 1e-5);  // it is narrower
}

TEST_CASE("paged cache: angles of single positions, however far") {
    auto config = tiny_llama();
    config.rope_scaling.kind = model::RopeScalingKind::yarn;
    config.rope_scaling.factor = 4;
    const auto frequencies = model::rope_frequencies(config, 64);
    const auto half = frequencies.inverse.size();
    Context context(test_device(), 1);
    const std::vector<int32_t> positions{0, 63, 7, 1'000'000'000};
    const DeviceBuffer memory = context.allocate(4 * 2 * half * sizeof(float));
    const Tensor table(memory.data(), Dtype::f32, {4, static_cast<int64_t>(2 * half)});
    model::fill_rope_rows(context, table, frequencies, positions);
    const auto values = to_host(context, table);
    for (size_t n = 0; n < positions.size(); ++n)
        for (size_t i = 0; i < half; ++i) {
            const long double angle = static_cast<long double>(positions[n]) * frequencies.inverse[i];
            CHECK(values[n * 2 * half + i] ==
                  Approx(frequencies.attention_factor * static_cast<double>(std::cos(angle))).margin(1e-6));
            CHECK(values[n * 2 * half + half + i] ==
                  Approx(frequencies.attention_factor * static_cast<double>(std::sin(angle))).margin(1e-6));
        }
}

TEST_CASE("paged cache: far into a stream losses are what they were") {
    auto config = tiny_llama();
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    CachedModel cached(context, model, CachePlan::uniform(CachePolicy::sink(2, 14), 2, 4), {.prefill_chunk = 512});
    const ScoredText s(21, 64, 23);
    const auto tail = [&](int64_t filler) {  // the same text after the same sinks and more or less of one token
        CachedText text = cached.open(CacheSizes::kEndless);
        std::vector<int32_t> fill(512, 7);
        fill[0] = 5;
        for (int64_t done = 0; done < filler; done += 512, fill[0] = 7) cached.prefill(text, fill);
        CachedText* const one = &text;
        std::vector<double> losses;
        for (size_t i = 0; i + 1 < s.tokens.size(); ++i) {
            cached.decode({&one, 1}, {&s.tokens[i], 1});
            losses.push_back(losses_of_step(context, model, cached, {&s.targets[i], 1}).front());
        }
        return std::vector<double>(losses.begin() + 40, losses.end());
    };
    CHECK(largest_difference(tail(512), tail(512 * 40)) <= 1e-4);
}

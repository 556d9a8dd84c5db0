// The three ways to run a stream agree: the literal cache, the masked pass in chunks, and one plain pass while nothing
// is evicted.
#include "infer/decoder.h"
#include "infer/masked_stream.h"
#include "tests/catch.h"
#include "tests/infer/cached_losses.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::test;
using infer::CachePolicy;

namespace {

model::ModelConfig streaming_config(model::Position position) {
    auto config = tiny_config();
    config.num_heads = 4;
    config.hidden_size = 32;
    config.position = position;
    config.rotary_pct = position == model::Position::rope ? 0.25 : 0.0;
    config.max_position_embeddings = 32;
    return config;
}

struct Stream {
    std::vector<int32_t> tokens, targets;
    explicit Stream(size_t length) : tokens(random_ids(21, length, 23)), targets(tokens.begin() + 1, tokens.end()) {
        targets.push_back(-1);
    }
};

std::vector<double> by_cache(Context& context, model::Transformer& model, const CachePolicy& policy, const Stream& s) {
    infer::Decoder decoder(context, model, policy, static_cast<int64_t>(s.tokens.size()));
    std::vector<double> losses;
    for (size_t i = 0; i + 1 < s.tokens.size(); ++i) {
        decoder.feed({&s.tokens[i], 1});
        losses.push_back(decoder.loss(s.targets[i]));
    }
    return losses;
}

std::vector<double> by_mask(Context& context, model::Transformer& model, const CachePolicy& policy, const Stream& s,
                            int64_t chunk) {
    infer::MaskedStream stream(context, model, policy, chunk);
    std::vector<float> losses;
    stream.feed(s.tokens, s.targets, losses);
    losses.pop_back();
    return {losses.begin(), losses.end()};
}

void check_agreement(model::Position position, Normaliser normaliser) {
    auto config = streaming_config(position);
    config.normaliser = normaliser;
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const Stream s(101);  // over three times the capacity
    for (const int64_t sinks : {0, 1, 2, 4})
        for (const int64_t recent : {1, 7, 23}) {
            const auto policy = CachePolicy::sink(sinks, recent);
            const auto literal = by_cache(context, model, policy, s);
            for (const int64_t chunk : {1, 5, 32, 128}) {
                INFO("position " << static_cast<int>(position) << " normaliser " << static_cast<int>(normaliser)
                                 << " sinks " << sinks << " recent " << recent << " chunk " << chunk);
                CHECK(largest_difference(literal, by_mask(context, model, policy, s, chunk)) <= 1e-4);
            }
        }
}

}  // namespace

TEST_CASE("masked pass = literal cache: RoPE 25 %") { check_agreement(model::Position::rope, Normaliser::softmax); }
TEST_CASE("masked pass = literal cache: ALiBi") { check_agreement(model::Position::alibi, Normaliser::softmax); }
TEST_CASE("masked pass = literal cache: no positions, sink logit") {
    check_agreement(model::Position::none, Normaliser::sink_logit);
}
TEST_CASE("masked pass = literal cache: RoPE, off by one") {
    check_agreement(model::Position::rope, Normaliser::off_by_one);
}

TEST_CASE("policies that differ give different losses") {  // the agreement above is not one of constants
    auto config = streaming_config(model::Position::rope);
    Context context(test_device(), 1);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const Stream s(101);
    const auto a = by_mask(context, model, CachePolicy::sink(0, 8), s, 32);
    CHECK(largest_difference(a, by_mask(context, model, CachePolicy::sink(1, 7), s, 32)) > 1e-2);
    CHECK(largest_difference(a, by_mask(context, model, CachePolicy::sink(0, 7), s, 32)) > 1e-2);
    CHECK(largest_difference(a, by_mask(context, model, CachePolicy::dense(), s, 32)) > 1e-2);
}

TEST_CASE("dense: decoding = chunks = one pass = prefill in one step") {
    const auto config = streaming_config(model::Position::rope);
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const Stream s(77);
    model::Pass pass(context, model, model::PassKind::forward, 1, 77);
    pass.set_tokens(s.tokens, s.targets);
    pass.forward();
    auto whole = to_host(context, pass.losses());
    whole.pop_back();
    CHECK(largest_difference(whole, by_cache(context, model, CachePolicy::dense(), s)) <= 1e-4);
    for (const int64_t chunk : {1, 16, 100})
        CHECK(largest_difference(whole, by_mask(context, model, CachePolicy::dense(), s, chunk)) <= 1e-4);

    infer::Decoder prefill(context, model, CachePolicy::dense(), 77);
    prefill.feed(std::span(s.tokens).first(76));
    CHECK(std::abs(prefill.loss(s.targets[75]) - whole[75]) <= 1e-4);
}

TEST_CASE("a prompt longer than the cache is taken one token at a time") {
    const auto config = streaming_config(model::Position::rope);
    Context context(test_device(), 1);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const Stream s(50);
    infer::Decoder at_once(context, model, CachePolicy::sink(2, 10), 0),
        one_by_one(context, model, CachePolicy::sink(2, 10), 0);
    at_once.feed(s.tokens);
    for (const int32_t token : s.tokens) one_by_one.feed({&token, 1});
    CHECK(relative_error(at_once.logits(), one_by_one.logits()) <= 1e-5);
    CHECK(at_once.cache().size() == 12);
}

TEST_CASE("memory of a bounded stream does not grow") {
    const auto config = streaming_config(model::Position::rope);
    Context context(test_device(), 1);
    model::Transformer model(context, config, Dtype::f32);
    infer::MaskedStream stream(context, model, CachePolicy::sink(4, 20), 16);
    const size_t before = stream.memory_bytes();
    std::vector<float> losses;
    const Stream s(1000);
    stream.feed(s.tokens, s.targets, losses);
    CHECK(stream.memory_bytes() == before);
    CHECK(stream.position() == 1000);
}

TEST_CASE(
    "positions far into a stream keep their precision") {  // angles are small: rows rotate by their place in the window
    const auto config = streaming_config(model::Position::rope);
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const auto policy = CachePolicy::sink(2, 14);
    const Stream s(64);
    // The tail of a stream depends on the sinks and what layers * recent tokens can reach; so a late copy of the same
    // tokens, after a long filler, must give the same losses as an early one.
    const auto tail_losses = [&](size_t filler) {
        infer::MaskedStream stream(context, model, policy, 512);
        std::vector<float> losses;
        const std::vector<int32_t> sinks{5, 6}, none(2, -1);
        stream.feed(sinks, none, losses);
        const std::vector<int32_t> fill(4096, 7), no_targets(4096, -1);
        for (size_t done = 0; done < filler; done += 4096) {
            losses.clear();
            stream.feed(fill, no_targets, losses);
        }
        losses.clear();
        stream.feed(s.tokens, s.targets, losses);
        return std::vector<double>(losses.begin() + 40, losses.end() - 1);
    };
    CHECK(largest_difference(tail_losses(4096), tail_losses(20 * 4096)) <= 1e-5);
}

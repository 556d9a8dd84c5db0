// Every family streams: the literal cache, token by token, against the masked pass, chunk by chunk.
#include "base/larger_or_nan.h"
#include "infer/decoder.h"
#include "infer/masked_stream.h"
#include "tests/catch.h"
#include "tests/model/family_configs.h"

using namespace ballast;
using namespace ballast::test;
using infer::CachePolicy;

namespace {

std::vector<double> literal_losses(Context& context, model::Transformer& model, const CachePolicy& policy,
                                   const std::vector<int32_t>& tokens) {
    infer::Decoder decoder(context, model, policy, static_cast<int64_t>(tokens.size()));
    std::vector<double> losses;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        decoder.feed({&tokens[i], 1});
        losses.push_back(decoder.loss(tokens[i + 1]));
    }
    return losses;
}

std::vector<float> masked_losses(Context& context, model::Transformer& model, const CachePolicy& policy,
                                 const std::vector<int32_t>& tokens, int64_t chunk) {
    infer::MaskedStream stream(context, model, policy, chunk);
    std::vector<float> losses;
    stream.feed(std::span(tokens).first(tokens.size() - 1), std::span(tokens).subspan(1), losses);
    return losses;
}

}  // namespace

TEST_CASE("families: masked pass = literal cache for every token", "[not_cuda]") {
    constexpr size_t kTokens = 60;
    for (const auto& [name, config] : family_configs()) {
        Context context(test_device(), 2);
        model::Transformer model(context, config, Dtype::f32, model::WeightUse::inference);
        randomise(context, model.weights(), 11);
        const auto tokens =
            random_ids(5, kTokens, config.num_sink_tokens > 0 ? config.sink_token_id : config.vocab_size);
        for (const CachePolicy& policy : {CachePolicy::dense(), CachePolicy::sink(0, 7), CachePolicy::sink(2, 9)}) {
            INFO(name << ", " << policy.name());
            const auto literal = literal_losses(context, model, policy, tokens);
            for (const int64_t chunk : {int64_t{1}, int64_t{13}, int64_t{100}}) {
                INFO("chunks of " << chunk);
                const auto masked = masked_losses(context, model, policy, tokens, chunk);
                REQUIRE(masked.size() == literal.size());
                double worst = 0;
                for (size_t i = 0; i < literal.size(); ++i)
                    worst = larger_or_nan(worst, std::abs(static_cast<double>(masked[i]) - literal[i]));
                CHECK(worst <= 1e-4);
            }
        }
    }
}

TEST_CASE("families: the cache holds key-value heads, not query heads") {
    const auto grouped = tiny_llama();
    auto whole = grouped;
    whole.num_key_value_heads = 0;
    CHECK(infer::KeyValueCache::bytes(grouped, Dtype::f32, 64) * 2 ==
          infer::KeyValueCache::bytes(whole, Dtype::f32, 64));
}

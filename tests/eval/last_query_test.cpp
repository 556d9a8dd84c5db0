// The last query's attention against the last row of the whole map.
#include "eval/last_query.h"

#include "eval/sinks.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::eval;
using namespace ballast::test;

TEST_CASE("last query: the last row of the maps of the same sequences") {
    for (const int64_t sink_tokens : {0, 2}) {
        for (const Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one, Normaliser::sink_logit}) {
            CAPTURE(sink_tokens, static_cast<int>(normaliser));
            Context context(test_device(), 2);
            auto config = tiny_config();
            config.normaliser = normaliser;
            config.num_sink_tokens = sink_tokens;
            config.sink_token_id = sink_tokens > 0 ? 20 : -1;
            model::Transformer model(context, config, Dtype::f32);
            randomise(context, model.weights(), 5, 0.5);
            std::vector<uint32_t> text;
            for (const int32_t id : random_ids(3, 80, 20)) text.push_back(static_cast<uint32_t>(id));

            int64_t done = 0;
            constexpr int64_t kFirst = 9;
            const auto r = evaluate_last_query(context, model, text, 19, 3, kFirst, [&](int64_t n) { done = n; });
            const SinkOptions whole{.length = 19, .sequences = 3, .positions = 1, .maps = true, .first_id = kFirst};
            const auto maps = evaluate_sinks(context, model, text, whole).maps;
            CHECK(r.sequences == 3);
            CHECK(done == 3);
            REQUIRE(r.weight.size() == 4);
            for (size_t i = 0; i < 4; ++i)  // layer, head
                CHECK(r.weight[i] == Approx(maps[i * 19 * 19 + 18 * 19]).epsilon(1e-5));
            const Spread layer = r.layer_spread(1);
            CHECK(layer.mean == Approx((r.weight[2] + r.weight[3]) / 2));
            CHECK(layer.deviation == Approx(std::fabs(r.weight[2] - r.weight[3]) / 2));
        }
    }
}

TEST_CASE("last query: a text that is too short is refused") {
    const auto config = tiny_config();
    CHECK_NOTHROW(check_last_query(config, 32, 32));
    CHECK(message_of([&] { check_last_query(config, 31, 32); }).find("31 tokens") != std::string::npos);
}

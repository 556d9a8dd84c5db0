#include "base/safetensors.h"
#include "eval/last_query.h"
#include "eval/logits.h"
#include "eval/sinks.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("column means of hand-made attention maps") {
    // Rows sum to 1; alpha_k averages column k over the queries that can see it.
    const float map[9] = {1, 0, 0, 0.5f, 0.5f, 0, 0.6f, 0.1f, 0.3f};
    const auto alpha = eval::column_means(map, 3, 3);
    CHECK(alpha[0] == Approx((1 + 0.5 + 0.6) / 3));
    CHECK(alpha[1] == Approx((0.5 + 0.1) / 2));
    CHECK(alpha[2] == Approx(0.3));
}

TEST_CASE("logit means of hand-made maps: what a query cannot see does not count, nor does the first query") {
    const float map[9] = {9, 99, 99, 4, -1, 99, 2, -2, -6};
    const auto means = eval::logit_means(map, 3);
    CHECK(means.first == Approx((4.0 + 2.0) / 2));
    CHECK(means.rest == Approx((-1.0 - 2.0 - 6.0) / 3));
    const float inf = std::numeric_limits<float>::infinity();
    const float window[9] = {9, -inf, -inf, 4, -1, -inf, -inf, -2, -6};  // the last query sees its predecessor only
    const auto seen = eval::logit_means(window, 3);
    CHECK(seen.first == 4);
    CHECK(seen.rest == Approx((-1.0 - 2.0 - 6.0) / 3));
}

TEST_CASE("the weights of a sequence are the softmax of its logits") {
    for (const Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one})
        for (const model::Position position : {model::Position::rope, model::Position::alibi}) {
            CAPTURE(static_cast<int>(normaliser), static_cast<int>(position));
            Context context(test_device(), 1);
            auto config = tiny_config();
            config.normaliser = normaliser;
            config.position = position;
            model::Transformer model(context, config, Dtype::f32);
            randomise(context, model.weights(), 5, 0.6);
            std::vector<uint32_t> text;
            for (const int32_t id : random_ids(3, 11, 23)) text.push_back(static_cast<uint32_t>(id));
            const auto r = eval::evaluate_sinks(context, model, text,
                                                {.length = 11, .sequences = 1, .positions = 1, .maps = true});
            for (size_t row = 0; row < 4 * 11; ++row) {  // layers, heads, queries
                const float *logits = r.logit_maps.data() + row * 11, *weights = r.maps.data() + row * 11;
                double total = normaliser == Normaliser::off_by_one ? 1 : 0;
                for (size_t j = 0; j <= row % 11; ++j) total += std::exp(static_cast<double>(logits[j]));
                for (size_t j = 0; j < 11; ++j) {
                    const double expected = j <= row % 11 ? std::exp(static_cast<double>(logits[j])) / total : 0;
                    CHECK(static_cast<double>(weights[j]) == Approx(expected).epsilon(1e-4).margin(1e-7));
                    if (j > row % 11) CHECK(logits[j] == 0);
                }
            }
            for (size_t map = 0; map < 4; ++map) {
                const auto means = eval::logit_means(r.logit_maps.data() + map * 121, 11);
                CHECK(r.logit_first[map] == Approx(means.first).epsilon(1e-5));
                CHECK(r.logit_rest[map] == Approx(means.rest).epsilon(1e-5));
            }
        }
}

TEST_CASE("sink metrics need one token of text: there is nothing to predict") {
    Context context(test_device(), 1);
    auto config = tiny_config();
    for (const int64_t sink_tokens : {0, 2}) {
        CAPTURE(sink_tokens);
        config.num_sink_tokens = sink_tokens;
        config.sink_token_id = sink_tokens > 0 ? 20 : -1;
        model::Transformer model(context, config, Dtype::f32);  // zero weights: all scores equal
        const std::vector<uint32_t> text(3, 5);
        const int64_t T = sink_tokens + 1;
        const auto r = eval::evaluate_sinks(context, model, text, {.length = T, .sequences = 3, .maps = true});
        CHECK(r.sequences == 3);
        CHECK(r.positions == T);
        CHECK(r.alpha[0] == Approx(T == 1 ? 1 : (1 + 1 / 2.0 + 1 / 3.0) / 3));
        CHECK(r.logit_first.empty() == (T == 1));
        CHECK(r.maps.back() == Approx(1.0 / static_cast<double>(T)));
        const auto last = eval::evaluate_last_query(context, model, text, T, 3, -1, [](int64_t) {});
        CHECK(last.weight.front() == Approx(1.0 / static_cast<double>(T)));
    }
}

TEST_CASE("sink metrics of an attention that is uniform") {
    Context context(test_device(), 1);
    auto config = tiny_config();
    model::Transformer model(context, config, Dtype::f32);  // zero weights: all scores equal
    const std::vector<uint32_t> text(300, 3);
    const auto r = eval::evaluate_sinks(context, model, text,
                                        {.length = 16, .sequences = 7, .positions = 2, .epsilon = 0.2, .maps = true});
    double harmonic = 0;
    for (int i = 1; i <= 16; ++i) harmonic += 1.0 / i;
    CHECK(r.sequences == 7);
    CHECK(r.share[0] == Approx(harmonic / 16));  // 0.211: above 0.2 …
    CHECK(r.sink_rate[0] == 1.0);
    CHECK(r.share[1] == Approx((harmonic - 1) / 15));  // 0.159: below
    CHECK(r.sink_rate[1] == 0.0);
    CHECK(r.share_std[0] == Approx(0).margin(1e-6));
    for (int64_t i = 0; i < 16; ++i)
        for (int64_t j = 0; j < 16; ++j)
            CHECK(r.maps[static_cast<size_t>(i * 16 + j)] ==
                  Approx(j <= i ? 1.0 / static_cast<double>(i + 1) : 0.0).margin(1e-6));
}

TEST_CASE("sequences are spread over the text, and each counts the same") {
    Context context(test_device(), 1);
    model::Transformer model(context, tiny_config(), Dtype::f32);
    randomise(context, model.weights(), 5);
    std::vector<uint32_t> text;
    for (const int32_t id : random_ids(3, 48, 23)) text.push_back(static_cast<uint32_t>(id));
    const auto measured = [&](size_t begin, size_t end, int64_t sequences) {
        return eval::evaluate_sinks(
            context, model,
            {text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end)},
            {.length = 16, .sequences = sequences, .positions = 2});
    };
    const auto all = measured(0, 48, 3), first = measured(0, 16, 1), second = measured(16, 32, 1),
               third = measured(32, 48, 1);
    CHECK(all.sequences == 3);
    for (size_t i = 0; i < all.logit_first.size(); ++i) {
        CHECK(all.logit_first[i] == Approx((first.logit_first[i] + second.logit_first[i] + third.logit_first[i]) / 3));
        CHECK(all.logit_rest[i] == Approx((first.logit_rest[i] + second.logit_rest[i] + third.logit_rest[i]) / 3));
    }
    for (size_t i = 0; i < all.alpha.size(); ++i)
        CHECK(all.alpha[i] == Approx((first.alpha[i] + second.alpha[i] + third.alpha[i]) / 3));
    CHECK(first.alpha[1] != Approx(third.alpha[1]).epsilon(1e-3));
}

TEST_CASE("with a sink logit the weights of a row sum to less than one") {
    Context context(test_device(), 1);
    auto config = tiny_config();
    config.normaliser = Normaliser::off_by_one;
    model::Transformer model(context, config, Dtype::f32);
    const std::vector<uint32_t> text(300, 3);
    const auto r =
        eval::evaluate_sinks(context, model, text, {.length = 8, .sequences = 1, .positions = 1, .maps = true});
    CHECK(r.maps[0] == Approx(0.5));  // exp(0) / (1 + exp(0))
    CHECK(r.maps[7 * 8] == Approx(1.0 / 9.0));
}

TEST_CASE("texts too short for a sequence are refused") {
    Context context(test_device(), 1);
    model::Transformer model(context, tiny_config(), Dtype::f32);
    CHECK_THROWS_AS(eval::evaluate_sinks(context, model, std::vector<uint32_t>(10, 1), {.length = 16}), UserError);
}

TEST_CASE("logits of a file: sink tokens are put before the ids and stay out of the result") {
    Context context(test_device(), 2);
    auto config = tiny_config();
    config.num_sink_tokens = 2;
    config.sink_token_id = 20;
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 5);
    const TemporaryFolder folder;
    const std::string in = folder / "in.safetensors", out = folder / "out.safetensors";
    const std::vector<int32_t> ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const auto write_ids = [&](std::vector<int32_t> values, std::vector<int64_t> shape) {
        SafetensorsWriter writer(in);
        writer.add("input_ids", Dtype::i32, shape, values.data());
        writer.commit();
    };
    write_ids(ids, {2, 5});
    const auto write_logits = [&](bool gradients) {
        return eval::write_logits(context, model, eval::read_input_ids(in, config.vocab_size), out, gradients);
    };
    const double loss = write_logits(true);

    const SafetensorsReader file(out);
    CHECK(file.info("logits").shape == std::vector<int64_t>{2, 5, 23});
    CHECK(file.info("loss").shape.empty());
    std::vector<float> logits(2 * 5 * 23);
    file.read_f32("logits", logits);
    double expected = 0;  // from the logits themselves
    for (size_t b = 0; b < 2; ++b)
        for (size_t t = 0; t < 4; ++t) {
            const float* row = logits.data() + (b * 5 + t) * 23;
            double total = 0;
            for (int v = 0; v < 23; ++v) total += std::exp(static_cast<double>(row[v]));
            expected += (std::log(total) - static_cast<double>(row[ids[b * 5 + t + 1]])) / 8;
        }
    CHECK(loss == Approx(expected).epsilon(1e-5));
    for (const auto& row : model.weights().table().rows()) CHECK(file.has("grad." + row.name));

    model::Pass pass(context, model, model::PassKind::forward, 1, 7);
    pass.set_tokens(std::vector<int32_t>{20, 21, 1, 2, 3, 4, 5}, std::vector<int32_t>(7, -1));
    const auto buffer = context.allocate(7 * 23 * sizeof(float));
    const Tensor all(buffer.data(), Dtype::f32, {7, 23});
    pass.forward_logits(all);
    const auto whole = to_host(context, all);
    for (size_t i = 0; i < 5 * 23; ++i) CHECK(static_cast<double>(logits[i]) == Approx(whole[2 * 23 + i]).margin(1e-5));

    write_ids({1, 2, 3, 99}, {2, 2});
    CHECK_THROWS_AS(write_logits(false), UserError);
    write_ids({1, 2, 3, -1}, {2, 2});
    CHECK_THROWS_AS(write_logits(false), UserError);
    write_ids({1, 2, 3, 4}, {4});
    CHECK_THROWS_AS(write_logits(false), UserError);
}

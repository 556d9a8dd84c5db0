// Many texts in one engine: the same answers as alone, to the bit; admission, extension, refusals.
#include "infer/decoder.h"
#include "infer/engine.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/model/family_configs.h"

#include <array>

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

model::ModelConfig engine_config() {
    auto config = tiny_llama();
    config.num_sink_tokens = 2;
    config.sink_token_id = 21;
    config.normaliser = Normaliser::sink_logit;
    return config;
}

CachePlan plan_named(const std::string& name, const model::ModelConfig& config) {
    const int64_t L = config.num_layers, H = config.num_heads;
    if (name == "dense") return CachePlan::uniform(CachePolicy::dense(), L, H);
    if (name == "window") return CachePlan::uniform(CachePolicy::sink(0, 9), L, H);
    if (name == "sink") return CachePlan::uniform(CachePolicy::sink(3, 8), L, H);
    if (name == "h2o") return CachePlan::heavy_hitters(5, 6, L, H);
    std::vector<HeadCache> heads;
    for (int64_t i = 0; i < L * H; ++i) heads.push_back({2, 4 + 5 * (i % 4)});
    return {L, H, heads, PositionRule::absolute};
}

struct ServedModel {
    Context context;
    model::Transformer model;

    explicit ServedModel(Dtype dtype, int threads = 2, model::ModelConfig config = engine_config())
        : context(test_device(), threads), model(context, config, dtype, model::WeightUse::inference) {
        randomise(context, model.weights(), 9, 0.4);
    }
    Engine engine(const std::string& plan, CacheOptions options = {.max_batch = 4, .prefill_chunk = 8}) {
        return Engine(context, model, plan_named(plan, model.config()), options);
    }
};

/// Makes a token's embedding NaN.
void poison(ServedModel& m, int32_t id) {
    model::Weights& weights = m.model.weights();
    const Tensor row = weights.compute(weights.table().row(model::Role::embed_in)).slice(0, id, id + 1);
    const std::vector<float> values(static_cast<size_t>(row.numel()), NAN);
    m.context.copy_from_host(row, values.data());
}

/// Prompts of many lengths, some longer than the bounded caches; some drawn, some not.
std::vector<Request> requests() {
    std::vector<Request> out;
    for (const size_t length : {1, 30, 7, 16, 2, 45, 8, 9}) {
        const auto i = static_cast<uint32_t>(out.size());
        Request request;
        request.prompt = random_ids(100 + i, length, 21);
        request.max_tokens = 6 + 2 * (i % 4);
        request.sampling = {.temperature = i % 3 == 0 ? 0.0 : 1.2,
                            .top_k = i % 2 == 0 ? 0 : 9,
                            .seed = 5,
                            .stream = i,
                            .alternatives = 2};
        out.push_back(request);
    }
    return out;
}

bool same(const Answer& a, const Answer& b) {
    const auto equal = [](const SampledToken& x, const SampledToken& y) {
        return x.id == y.id && x.log_prob == y.log_prob &&
               std::equal(
                   x.alternatives.begin(), x.alternatives.end(), y.alternatives.begin(), y.alternatives.end(),
                   [](const IdLogProb& p, const IdLogProb& q) { return p.id == q.id && p.log_prob == q.log_prob; });
    };
    return a.finish == b.finish &&
           std::equal(a.tokens.begin(), a.tokens.end(), b.tokens.begin(), b.tokens.end(), equal);
}

std::vector<Answer> alone(ServedModel& m, const std::string& plan) {
    std::vector<Answer> out;
    Engine engine = m.engine(plan, {.max_batch = 1, .prefill_chunk = 8});
    for (const Request& request : requests()) {
        const int64_t text = engine.submit(request);
        while (engine.step()) {
        }
        out.push_back(engine.take(text));
    }
    return out;
}

/// All of them, submitted `apart` steps from one another.
std::vector<Answer> together(ServedModel& m, const std::string& plan, int apart, const CacheOptions& options) {
    Engine engine = m.engine(plan, options);
    std::vector<int64_t> texts;
    for (const Request& request : requests()) {
        texts.push_back(engine.submit(request));
        for (int i = 0; i < apart; ++i) engine.step();
    }
    while (engine.step()) CHECK(engine.cache().free_blocks() >= 0);
    CHECK(engine.cache().free_blocks() == engine.cache().sizes().options.blocks);
    std::vector<Answer> out;
    for (const int64_t text : texts) out.push_back(engine.take(text));
    return out;
}

void check_bits(Dtype dtype, const std::vector<std::string>& plans) {
    for (const std::string& plan : plans) {
        ServedModel one_thread(dtype, 1), three_threads(dtype, 3);
        const std::vector<Answer> expected = alone(one_thread, plan);
        for (const Answer& answer : expected) CHECK(answer.finish == Finish::length);
        for (const auto& [apart, batch] : {std::pair{0, 8}, {1, 2}, {3, 8}}) {
            INFO(plan << " apart " << apart << " batch " << batch);
            const auto answers = together(three_threads, plan, apart, {.max_batch = batch, .prefill_chunk = 8});
            REQUIRE(answers.size() == expected.size());
            for (size_t i = 0; i < answers.size(); ++i) {
                INFO("request " << i);
                CHECK(same(answers[i], expected[i]));
            }
        }
    }
}

}  // namespace

TEST_CASE("engine: the same bits alone, among others, joining at any step, for any number of threads", "[not_cuda]") {
    check_bits(Dtype::f32, {"dense", "window", "sink", "moa", "h2o"});
}
TEST_CASE("engine: the same bits in bf16", "[cpu]") { check_bits(Dtype::bf16, {"dense", "sink", "moa", "h2o"}); }

TEST_CASE("engine: with a memory of blocks, the same bits in texts that leave their span", "[not_cuda]") {
    constexpr int kAlone = 1 << 20;  // steps in which every text ends
    const bool on_cpu = test_device() == Device::cpu;
    std::vector<Request> all;
    for (const size_t length : on_cpu ? std::vector<size_t>{150, 3, 61, 128, 65} : std::vector<size_t>{130, 65}) {
        const auto i = static_cast<uint32_t>(all.size());
        all.push_back({.prompt = random_ids(200 + i, length, 21),
                       .max_tokens = on_cpu ? 50 : 5,
                       .sampling = {.temperature = 1.2, .seed = 5, .stream = i, .alternatives = 2},
                       .keep_positions = 240});
    }
    const auto more = random_ids(300, 30, 21);
    // The texts' answers, then what they say to more text, begun `apart` steps from one another.
    const auto answers = [&](int threads, int64_t chunk, int apart) {
        ServedModel m(Dtype::f32, threads);
        Engine engine(m.context, m.model, CachePlan::block_memory(0, 64, 1, 2, 4),
                      {.max_batch = std::ssize(all), .prefill_chunk = chunk, .max_positions = 240});
        const auto steps = [&](int count) {
            while (count-- > 0 && engine.step()) {
            }
        };
        std::vector<int64_t> texts;
        for (const Request& request : all) {
            texts.push_back(engine.submit(request));
            steps(apart);
        }
        steps(kAlone);
        std::vector<Answer> out;
        for (const int64_t text : texts) {
            out.push_back(engine.answer(text));
            engine.extend(text, more, 5);
            steps(apart);
        }
        steps(kAlone);
        for (const int64_t text : texts) out.push_back(engine.take(text));
        return out;
    };
    for (const int64_t chunk : on_cpu ? std::vector<int64_t>{256, 8} : std::vector<int64_t>{256}) {
        const auto alone = answers(1, chunk, kAlone);
        for (const auto& answer : alone) CHECK(answer.finish == Finish::length);
        for (const int apart : {0, 2, 5}) {
            INFO("chunks of " << chunk << ", " << apart << " steps apart");
            const auto together = answers(3, chunk, apart);
            REQUIRE(together.size() == alone.size());
            for (size_t i = 0; i < alone.size(); ++i) {
                INFO("answer " << i);
                CHECK(same(alone[i], together[i]));
            }
        }
    }
}

TEST_CASE("engine: a text by score that is stopped while its prompt is read goes on as it would alone") {
    const auto answer = [](bool alone) {
        ServedModel m(Dtype::f32);
        Engine engine = m.engine("h2o");
        const int64_t text = engine.submit({.prompt = random_ids(1, 30, 21), .max_tokens = 4, .keep_positions = 60});
        engine.step();
        engine.stop(text);
        const int64_t other = alone ? -1 : engine.submit({.prompt = random_ids(2, 20, 21), .max_tokens = 4});
        engine.extend(text, {}, 5);
        while (engine.step()) {
        }
        if (!alone) CHECK(engine.take(other).tokens.size() == 4);
        const Answer out = engine.take(text);
        CHECK(engine.cache().free_blocks() == engine.cache().sizes().options.blocks);
        return out;
    };
    const Answer alone = answer(true);
    CHECK(alone.tokens.size() == 5);
    CHECK(same(answer(false), alone));
}

TEST_CASE("engine: tokens and log-probabilities are those of the literal cache") {
    ServedModel m(Dtype::f32);
    for (const std::string plan : {"dense", "window", "sink"}) {
        const auto policy = plan == "dense"    ? CachePolicy::dense()
                            : plan == "window" ? CachePolicy::sink(0, 9)
                                               : CachePolicy::sink(3, 8);
        const auto all = requests();
        const auto answers = together(m, plan, 1, {.max_batch = 3, .prefill_chunk = 8});
        for (size_t i = 0; i < all.size(); ++i) {
            Decoder decoder(m.context, m.model, policy, 64);
            std::vector<int32_t> fed{21, 22};
            fed.insert(fed.end(), all[i].prompt.begin(), all[i].prompt.end());
            for (const int32_t id : fed) decoder.feed({&id, 1});
            CHECK(std::ssize(answers[i].tokens) == all[i].max_tokens);
            for (const SampledToken& token : answers[i].tokens) {
                INFO(plan << " request " << i);
                CHECK(token.id < 21);
                CHECK(-token.log_prob == Approx(decoder.loss(token.id)).margin(1e-4));
                const auto logits = decoder.logits();
                if (all[i].sampling.temperature == 0)
                    CHECK(token.id == infer::sample(std::span(logits).first(21), 0, 0));
                decoder.feed({&token.id, 1});
            }
        }
    }
}

TEST_CASE("engine: requests wait until their worst case fits, first come, first served") {
    ServedModel m(Dtype::f32);
    // Dense: 2 layers, 2 key-value heads, texts of at most 64 positions: 4 blocks a text. Two fit.
    Engine engine = m.engine("dense", {.max_batch = 8, .prefill_chunk = 8, .blocks = 9});
    std::vector<int64_t> texts;
    for (const Request& request : requests()) texts.push_back(engine.submit(request));
    std::vector<size_t> begun;
    while (engine.step()) {
        CHECK((engine.cache().free_blocks() - 9) % 4 == 0);
        for (size_t i = 0; i < texts.size(); ++i)
            if (!engine.answer(texts[i]).tokens.empty() && std::find(begun.begin(), begun.end(), i) == begun.end())
                begun.push_back(i);
    }
    CHECK(begun == std::vector<size_t>{0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(engine.cache().free_blocks() == 9);
    const std::vector<Answer> expected = alone(m, "dense");
    for (size_t i = 0; i < texts.size(); ++i) CHECK(same(engine.take(texts[i]), expected[i]));
}

TEST_CASE("engine: an answer ends at a stop id, when its reader says so, and when it is told to") {
    ServedModel m(Dtype::f32);
    Engine engine = m.engine("sink");
    Request request{.prompt = {3, 4}, .max_tokens = 20, .sampling = {.temperature = 1, .seed = 3}};
    const auto run = [&](Request r) {
        const int64_t text = engine.submit(std::move(r));
        while (engine.step()) {
        }
        return engine.take(text);
    };
    const Answer whole = run(request);
    REQUIRE(whole.tokens.size() == 20);
    Request at_id = request;
    at_id.stop_ids = {whole.tokens[7].id};
    const Answer stopped = run(at_id);
    const auto first = std::find_if(whole.tokens.begin(), whole.tokens.end(),
                                    [&](const SampledToken& token) { return token.id == at_id.stop_ids[0]; });
    CHECK(stopped.finish == Finish::stop_id);
    CHECK(std::ssize(stopped.tokens) == first - whole.tokens.begin() + 1);

    Request by_reader = request;
    int told = 0;
    by_reader.on_token = [&](const SampledToken& token) { return token.id == whole.tokens[told].id && ++told < 5; };
    const Answer short_answer = run(by_reader);
    CHECK(short_answer.finish == Finish::stopped);
    CHECK(short_answer.tokens.size() == 5);

    const int64_t text = engine.submit(request), other = engine.submit(request);
    for (int i = 0; i < 4; ++i) engine.step();
    engine.stop(text);
    while (engine.step()) {
    }
    CHECK(engine.answer(text).finish == Finish::stopped);
    CHECK(std::ssize(engine.take(text).tokens) < 20);
    CHECK(same(engine.take(other), whole));
}

TEST_CASE("engine: a text that goes on is the text that was there at once") {
    ServedModel m(Dtype::f32);
    for (const std::string plan : {"dense", "sink", "moa"}) {
        INFO(plan);
        Engine engine = m.engine(plan);
        const std::vector<int32_t> first = random_ids(1, 11, 21), second = random_ids(2, 13, 21);
        Request request{.prompt = first,
                        .max_tokens = 5,
                        .sampling = {.temperature = 0, .presence_penalty = 3, .alternatives = 0},
                        .keep_positions = plan == "sink" ? CacheSizes::kEndless : 60};
        const int64_t text = engine.submit(request);
        while (engine.step()) {
        }
        const Answer begun = engine.answer(text);
        engine.extend(text, second, 6);
        while (engine.step()) {
        }
        const Answer extended = engine.answer(text);
        CHECK(engine.position(text) == 2 + 11 + 5 + 13 + 5);  // all but the last token
        engine.extend(text, {}, 2);                           // goes on with its own last token
        while (engine.step()) {
        }
        CHECK(engine.take(text).tokens.size() == 2);
        CHECK(engine.cache().free_blocks() == engine.cache().sizes().options.blocks);

        std::vector<int32_t> whole = first;
        for (const SampledToken& token : begun.tokens) whole.push_back(token.id);
        whole.insert(whole.end(), second.begin(), second.end());
        request = {.prompt = whole, .max_tokens = 6, .sampling = request.sampling};
        const int64_t at_once = engine.submit(request);
        while (engine.step()) {
        }
        const Answer expected = engine.take(at_once);
        for (size_t i = 0; i < 6; ++i) {
            CHECK(extended.tokens[i].id == expected.tokens[i].id);
            CHECK(extended.tokens[i].log_prob == Approx(expected.tokens[i].log_prob).margin(1e-4));
        }
    }
}

TEST_CASE("engine: what cannot be answered is refused before any work") {
    ServedModel m(Dtype::f32);
    const auto refusal = [&](Engine& engine, Request request) {
        return message_of([&] { engine.submit(std::move(request)); });
    };
    Engine dense = m.engine("dense");
    CHECK_THAT(refusal(dense, {.prompt = random_ids(1, 63, 21)}),
               ContainsSubstring("the prompt has 65 tokens, with the model's sinks (2), the cache is for texts of 64; "
                                 "shorten it to 64, or choose the policy sink"));
    CHECK_THAT(refusal(dense, {.prompt = random_ids(1, 50, 21), .max_tokens = 14}),
               ContainsSubstring("ask for at most 13 (max_tokens), shorten it to 51, or choose the policy sink"));
    CHECK_THAT(refusal(dense, {.prompt = {1}, .max_tokens = 65}),
               ContainsSubstring("ask for at most 62 (max_tokens), or choose"));
    CHECK_THAT(refusal(dense, {.prompt = {23}}), ContainsSubstring("no token 23"));
    CHECK_THAT(refusal(dense, {.prompt = {-1}}), ContainsSubstring("no token -1"));
    CHECK_THAT(refusal(dense, {.prompt = {1}, .max_tokens = 1, .sampling = {.top_p = 2}}), ContainsSubstring("top_p"));
    Engine moa = m.engine("moa");
    CHECK_THAT(refusal(moa, {.prompt = {1}, .max_tokens = 63}), ContainsSubstring("at most 62"));
    Engine small = m.engine("dense", {.blocks = 3});
    CHECK_THAT(refusal(small, {.prompt = {1}, .max_tokens = 5}),
               ContainsSubstring("needs 4 blocks of the cache, which has 3"));
    // A policy without end, too, has blocks for the positions it was given alone.
    Engine brief = m.engine("sink", {.prefill_chunk = 8, .max_positions = 40});
    CHECK_THAT(refusal(brief, {.prompt = random_ids(1, 39, 21), .max_tokens = 0}),
               ContainsSubstring("the cache is for texts of 40; shorten it to 40, or allow more positions"));
    CHECK_THAT(refusal(brief, {.prompt = random_ids(1, 30, 21), .max_tokens = 10}),
               ContainsSubstring("ask for at most 9 (max_tokens), shorten it to 31, or allow more positions"));
    CHECK_NOTHROW(brief.submit({.prompt = random_ids(1, 30, 21), .max_tokens = 9}));
    Engine sink = m.engine("sink", {.prefill_chunk = 8});
    CHECK_NOTHROW(sink.submit({.prompt = random_ids(1, 500, 21), .max_tokens = 1'000'000'000'000}));
    for (int i = 0; i < 200; ++i) CHECK(sink.step());
    CHECK(sink.position(0) > 300);  // far past the 64 that the model was trained on, in 12 rows a head
    CHECK_THAT(message_of([&] { Engine(m.context, m.model, CachePlan::uniform(CachePolicy::dense(), 2, 3), {}); }),
               ContainsSubstring("2 layers of 3 heads"));
}

TEST_CASE("engine: a text may fill the cache to its last position, and the token behind that one is drawn too") {
    ServedModel m(Dtype::f32);
    for (const std::string plan : {"dense", "moa", "h2o", "sink"}) {
        // 64 positions, which the model was trained on, of which 2 are the model's sink tokens.
        for (const auto& [prompt, answer] : {std::pair{62, 1}, {61, 2}, {40, 23}, {1, 62}}) {
            INFO(plan << ": " << prompt << " and " << answer);
            Engine engine = m.engine(plan, {.prefill_chunk = 8, .max_positions = 64});
            Request request{.prompt = random_ids(1, static_cast<size_t>(prompt), 21), .max_tokens = answer + 1};
            CHECK_THAT(message_of([&] { engine.submit(request); }),
                       ContainsSubstring("at most " + std::to_string(answer)));
            request.max_tokens = answer;
            const int64_t text = engine.submit(request);
            while (engine.step()) {
            }
            CHECK(engine.position(text) == 64);
            CHECK(std::ssize(engine.take(text).tokens) == answer);
        }
        Engine engine = m.engine(plan, {.prefill_chunk = 8, .max_positions = 64});
        const int64_t text =
            engine.submit({.prompt = random_ids(1, 30, 21), .max_tokens = 4, .keep_positions = 64});  // 36 of 64
        while (engine.step()) {
        }
        const auto more = random_ids(2, 20, 21);
        CHECK_THAT(message_of([&] { engine.extend(text, more, 10); }),
                   ContainsSubstring("ask for at most 9 (max_tokens)"));
        engine.extend(text, more, 9);
        while (engine.step()) {
        }
        CHECK(engine.position(text) == 64);
        CHECK(engine.take(text).tokens.size() == 9);
    }
}

TEST_CASE("engine: a text whose logits are not finite ends there, and the others go on to the bit") {
    for (const std::string plan : {"dense", "sink", "h2o"}) {
        for (const double temperature : {0.0, 1.0}) {
            INFO(plan << " at temperature " << temperature);
            ServedModel m(Dtype::f32);
            const SamplingParams sampling{.temperature = temperature, .top_p = 0.9, .min_p = 0.01};
            const Request good{.prompt = {3, 4, 5}, .max_tokens = 6, .sampling = sampling};
            const int32_t poisoned = 20;
            const auto answers = [&](const std::vector<Request>& all) {
                Engine engine(m.context, m.model, plan_named(plan, m.model.config()),
                              {.max_batch = 2, .prefill_chunk = 8}, poisoned);  // ids below it are drawn
                std::vector<int64_t> texts;
                for (const Request& request : all) texts.push_back(engine.submit(request));
                while (engine.step()) {
                }
                CHECK(engine.cache().free_blocks() == engine.cache().sizes().options.blocks);
                std::vector<Answer> out;
                for (const int64_t text : texts) out.push_back(engine.take(text));
                return out;
            };
            Request other = good;
            other.prompt = {6, 7};
            const auto expected = answers({good, other});
            // It makes NaN of all that read it. The third text gets the second one's blocks.
            poison(m, poisoned);
            Request bad = good;
            bad.prompt = {3, poisoned};
            const auto got = answers({good, bad, other});
            CHECK(same(got[0], expected[0]));
            CHECK(got[1].finish == Finish::not_finite);
            CHECK(got[1].tokens.empty());
            CHECK(same(got[2], expected[1]));
        }
    }
}

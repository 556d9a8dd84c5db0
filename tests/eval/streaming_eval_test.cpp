#include <fmt/format.h>

#include "eval/cache_table.h"
#include "eval/streaming.h"
#include "base/error.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::test;
using eval::StreamingMethod;
using infer::CachePolicy;

namespace {

struct Setup {
    Context context{test_device(), 2};
    model::Transformer model;
    std::vector<uint32_t> text;

    explicit Setup(int64_t num_sink_tokens, int64_t length = 90) : model(context, config(num_sink_tokens), Dtype::f32) {
        randomise(context, model.weights(), 11, 0.4);
        for (const int32_t id : random_ids(8, static_cast<size_t>(length), 20))
            text.push_back(static_cast<uint32_t>(id));
    }
    static model::ModelConfig config(int64_t n) {
        auto c = tiny_config();
        c.num_sink_tokens = n;
        c.sink_token_id = n > 0 ? 20 : -1;
        return c;
    }
    /// NaN wherever this token is read.
    void spoil_token(uint32_t id) {
        for (const auto& row : model.weights().table().rows()) {
            if (row.role != model::Role::embed_in) continue;
            std::vector<float> values = context.read_floats(model.weights().master(row));
            values[id * static_cast<size_t>(model.config().hidden_size)] = std::numeric_limits<float>::quiet_NaN();
            model.weights().write(context, row, values.data());
        }
        model.weights().refresh_compute(context);
    }
    eval::StreamingResult run(const eval::StreamingOptions& options) {
        return eval::evaluate_streaming(context, model, eval::make_text_stream(text, model.config(), 0), options,
                                        [](int64_t) {});
    }
};

eval::StreamingOptions bounded(int64_t sinks, int64_t cache, StreamingMethod method = StreamingMethod::masked) {
    eval::StreamingOptions o;
    o.policy = CachePolicy::sink(sinks, cache - sinks);
    o.method = method;
    o.chunk = 13;
    return o;
}

std::vector<int32_t> targets_of(const eval::TextStream& stream) {
    std::vector<int32_t> targets;
    for (size_t i = 0; i < stream.tokens.size(); ++i) targets.push_back(stream.target(i));
    return targets;
}

}  // namespace

TEST_CASE("the stream begins with the model's sink tokens, and every model scores the same tokens") {
    const std::vector<uint32_t> text{5, 6, 7};
    const auto plain = eval::make_text_stream(text, Setup::config(0), 0),
               sinks = eval::make_text_stream(text, Setup::config(2), 0);
    CHECK(plain.tokens == std::vector<int32_t>{5, 6, 7});
    CHECK(targets_of(plain) == std::vector<int32_t>{6, 7, -1});
    CHECK(sinks.tokens == std::vector<int32_t>{20, 21, 5, 6, 7});
    CHECK(targets_of(sinks) == std::vector<int32_t>{-1, -1, 6, 7, -1});
    CHECK(plain.num_targets() == 2);
    CHECK(sinks.num_targets() == 2);
    CHECK(eval::make_text_stream(text, Setup::config(0), 2).tokens.size() == 2);
    CHECK_THROWS_AS(eval::make_text_stream({5}, Setup::config(0), 0), UserError);
    CHECK_THROWS_AS(eval::make_text_stream({5, 23}, Setup::config(0), 0), UserError);
    CHECK_THROWS_AS(eval::make_text_stream({5, 20}, Setup::config(2), 0), UserError);  // text cannot hold sink tokens
}

TEST_CASE("masked pass and literal cache give the same perplexity and curve") {
    for (const int64_t n : {0, 1, 2}) {
        Setup s(n);
        for (const int64_t sinks : {0, 1, 2, 4}) {
            const auto a = s.run(bounded(sinks, 16)), b = s.run(bounded(sinks, 16, StreamingMethod::cache));
            CHECK(a.tokens == 89);
            CHECK(a.tokens == a.of_tokens);
            REQUIRE(a.losses.values.size() == b.losses.values.size());
            for (size_t i = 0; i < a.losses.values.size(); ++i)
                CHECK(a.losses.values[i] == Approx(b.losses.values[i]).margin(1e-4));
            CHECK(a.perplexity == Approx(std::exp(a.loss)));
            double total = 0;
            int64_t tokens = 0;
            for (const auto& point : a.curve)
                total += point.loss * static_cast<double>(point.tokens), tokens += point.tokens;
            CHECK(tokens == a.tokens);
            CHECK(total / static_cast<double>(tokens) == Approx(a.loss));
        }
    }
}

TEST_CASE("recompute: each token from the sinks and the last L - n tokens, run afresh") {
    for (const int64_t n : {0, 2}) {
        Setup s(n, 40);
        eval::StreamingOptions options;
        options.policy = eval::Recompute{8};
        const auto r = s.run(options);
        CHECK(r.tokens == 39);
        for (const int64_t p : {3, 7, 8, 20, 38}) {  // text position whose successor is scored
            const int64_t first = std::max<int64_t>(0, p + 1 - (8 - n));
            std::vector<uint32_t> window(s.text.begin() + first, s.text.begin() + p + 2);
            const auto stream = eval::make_text_stream(window, s.model.config(), 0);
            eval::StreamingOptions dense;
            const auto alone = eval::evaluate_streaming(s.context, s.model, stream, dense, [](int64_t) {});
            CHECK(r.losses.values[static_cast<size_t>(p)] == Approx(alone.losses.values.back()).margin(1e-4));
        }
        options.every = 3;
        const auto subset = s.run(options);
        CHECK(subset.tokens == 13);
        CHECK(subset.of_tokens == 39);
        for (size_t p = 0; p < 39; ++p) {
            CHECK(subset.losses.scored[p] == (p % 3 == 0));
            if (p % 3 == 0) CHECK(subset.losses.values[p] == Approx(r.losses.values[p]).margin(1e-4));
        }
        double total = 0;
        for (size_t p = 0; p < 39; p += 3) total += static_cast<double>(r.losses.values[p]);
        CHECK(eval::perplexity_on_subset(r, subset) == Approx(std::exp(total / 13)).epsilon(1e-4));

        for (const auto method : {StreamingMethod::masked, StreamingMethod::cache}) {  // the same tokens for a cache
            eval::StreamingOptions cache = bounded(n, 16, method);
            const auto all = s.run(cache);
            cache.every = 3;
            const auto some = s.run(cache);
            CHECK(some.tokens == 13);
            CHECK(some.losses.scored == subset.losses.scored);
            CHECK(some.perplexity == Approx(eval::perplexity_on_subset(all, subset)));
        }
    }
}

TEST_CASE("h2o: without heavy rows the losses are a window's, and with room for all of them a dense cache's") {
    for (const int64_t n : {0, 2}) {
        Setup s(n, 58);  // within the model's positions
        const auto scored = [&](int64_t heavy, int64_t recent) {
            eval::StreamingOptions options;
            options.policy = eval::Scored{"h2o"};
            options.choice = infer::PolicyChoice{.policy = "h2o", .heavy = heavy, .recent = recent};
            options.method = StreamingMethod::cache;
            return s.run(options);
        };
        const auto all = scored(30, 30), dense = s.run({});
        CHECK(all.tokens == 57);
        for (size_t i = 0; i < 57; ++i) CHECK(all.losses.values[i] == Approx(dense.losses.values[i]).margin(1e-4));
        if (n > 0) continue;  // a window drops the model's sink tokens
        // Both drop the same rows, and rotary angles are relative.
        const auto last = scored(0, 9), window = s.run(bounded(0, 9));
        for (size_t i = 0; i < 57; ++i) CHECK(last.losses.values[i] == Approx(window.losses.values[i]).margin(1e-4));
    }
}

TEST_CASE("losses that are not finite are counted, never taken for targets that were not scored") {
    for (const int64_t n : {0, 2}) {
        Setup s(n, 60);
        for (size_t i = 0; i < s.text.size(); ++i) s.text[i] = i == 30 ? 19 : s.text[i] % 19;  // one token of its own
        s.spoil_token(19);
        eval::StreamingOptions options;
        options.policy = eval::Recompute{8};
        for (const int64_t every : {1, 3}) {
            options.every = every;
            const auto r = s.run(options);
            CAPTURE(n, every);
            CHECK(r.tokens == (every == 1 ? 59 : 20));
            CHECK(r.non_finite == (8 - n + every - 1) / every);  // windows that hold position 30
            CHECK(std::isnan(r.loss));
            CHECK(std::isnan(r.perplexity));
            CHECK(std::isfinite(r.curve.front().loss));
            CHECK(std::isnan(r.curve[static_cast<size_t>(30 / every)].loss));
            CHECK(std::isnan(eval::perplexity_on_subset(s.run({}), r)));
        }
        for (const auto method : {StreamingMethod::masked, StreamingMethod::cache}) {
            const auto r = s.run(bounded(1, 16, method));
            CHECK(r.tokens == 59);
            CHECK(r.non_finite >= 29);  // two layers of 15 recent positions reach to the end
            CHECK(r.non_finite <= (method == StreamingMethod::cache ? 29 : 29 + 12));  // 0 · NaN inside a chunk of 13
            CHECK(std::isnan(r.perplexity));
        }
    }
    CHECK(eval::perplexity_text(-std::nan("")) == "nan");
}

TEST_CASE("an infinite loss is counted too, and its perplexity is infinite") {
    Setup s(0, 40);
    for (size_t i = 0; i < s.text.size(); ++i) s.text[i] = i == 30 ? 19 : s.text[i] % 19;
    const auto fill = [&](const std::string& name, float value, size_t begin = 0, size_t end = SIZE_MAX) {
        for (const auto& row : s.model.weights().table().rows()) {
            if (row.name != name) continue;
            std::vector<float> values = s.context.read_floats(s.model.weights().master(row));
            std::fill(values.begin() + static_cast<std::ptrdiff_t>(begin),
                      values.begin() + static_cast<std::ptrdiff_t>(std::min(end, values.size())), value);
            s.model.weights().write(s.context, row, values.data());
        }
    };
    fill("gpt_neox.final_layer_norm.weight", 0);  // what the head reads is all ones
    fill("gpt_neox.final_layer_norm.bias", 1);
    fill("embed_out.weight", -3e38f, 19 * 16, 20 * 16);  // so the logit of token 19 is -inf, its probability 0
    s.model.weights().refresh_compute(s.context);
    const auto r = s.run(bounded(1, 16));
    CHECK(r.tokens == 39);
    CHECK(r.non_finite == 1);
    CHECK(r.loss == std::numeric_limits<double>::infinity());
    CHECK(r.perplexity == std::numeric_limits<double>::infinity());
    CHECK(eval::perplexity_text(r.perplexity) == "inf");
}

TEST_CASE("a table of weights that are not finite says so") {
    Setup s(0);
    s.spoil_token(s.text[0]);
    eval::CacheTableOptions options;
    options.cache = 16;
    options.recompute_every = 4;
    options.sink_metrics = {.length = 16, .sequences = 3, .positions = 2};
    const auto row = eval::evaluate_cache_table(s.context, "broken", s.model, s.text, options);
    CHECK(std::isnan(row.sinks.sink_rate[0]));
    CHECK(std::isnan(row.sinks.share[0]));
    const std::string text = eval::format_cache_table({row});
    CAPTURE(text);
    CHECK(text.find("! broken, dense: 89 of 89 losses are not finite") != std::string::npos);
    CHECK(text.find("! broken, recompute: ") != std::string::npos);
    CHECK(text.find("-nan") == std::string::npos);
}

TEST_CASE("recompute: windows begin with the token that training samples began with") {
    Setup s(0, 40);
    const auto first = static_cast<int64_t>(s.text.front());
    const auto stream = eval::make_text_stream(s.text, s.model.config(), 0, first);
    eval::StreamingOptions options;
    options.policy = eval::Recompute{8};
    const auto evaluate = [&](const eval::TextStream& text, const eval::StreamingOptions& how) {
        return eval::evaluate_streaming(s.context, s.model, text, how, [](int64_t) {});
    };
    const auto r = evaluate(stream, options);
    CHECK(r.tokens == 39);
    CHECK(eval::sink_positions(r.policy) == 1);
    for (const int64_t p : {3, 6, 7, 8, 20, 38}) {  // text position whose successor is scored
        std::vector<uint32_t> window{s.text.front()};
        window.insert(window.end(), s.text.begin() + std::max<int64_t>(1, p + 1 - 7), s.text.begin() + p + 2);
        const auto alone = evaluate(eval::make_text_stream(window, s.model.config(), 0), {});
        CHECK(r.losses.values[static_cast<size_t>(p)] == Approx(alone.losses.values.back()).margin(1e-4));
    }
    options.policy = eval::Recompute{1};
    CHECK_THROWS_AS(evaluate(stream, options), UserError);
    options.policy = eval::Recompute{2};
    CHECK(evaluate(stream, options).tokens == 39);

    eval::CacheTableOptions table;
    table.cache = 8;
    table.recompute_every = 1;
    table.sink_metrics = {.length = 16, .sequences = 3, .positions = 2, .first_id = first};
    CHECK(eval::evaluate_cache_table(s.context, "one", s.model, s.text, table).cells.back().loss == Approx(r.loss));
}

TEST_CASE("caches larger than the positions are refused, and the longest allowed is not") {
    Setup s(1);
    CHECK_NOTHROW(s.run(bounded(1, 64)));
    CHECK_THROWS_AS(s.run(bounded(1, 65)), UserError);
    eval::StreamingOptions recompute;
    recompute.policy = eval::Recompute{65};
    CHECK_THROWS_AS(s.run(recompute), UserError);
    recompute.policy = eval::Recompute{1};
    CHECK_THROWS_AS(s.run(recompute), UserError);
    CHECK_NOTHROW(s.run({}));  // dense may run past the positions
}

TEST_CASE("the table has every column for every model and marks subsets") {
    Setup plain(0), sinks(1);
    eval::CacheTableOptions options;
    options.cache = 16;
    options.recompute_every = 4;
    options.sink_metrics = {.length = 16, .sequences = 3, .positions = 2};
    std::vector<eval::CacheTableRow> rows;
    rows.push_back(eval::evaluate_cache_table(plain.context, "vanilla", plain.model, plain.text, options));
    rows.push_back(eval::evaluate_cache_table(sinks.context, "sink", sinks.model, sinks.text, options));
    for (const auto& row : rows) {
        REQUIRE(row.cells.size() == 6);
        for (size_t c = 0; c < 5; ++c) CHECK(row.cells[c].tokens == 89);
        CHECK(row.cells[5].tokens == 23);
        CHECK(std::isfinite(row.cells[5].perplexity));
    }
    const std::string text = eval::format_cache_table(rows);
    for (const char* part : {"0+16", "1+15", "2+14", "4+12", "dense", "recompute", "Sink_1", "vanilla", "layer 1",
                             "scored on 23 of 89 tokens"}) {
        INFO(text << "\nlacks " << part);
        CHECK(text.find(part) != std::string::npos);
    }
}

TEST_CASE("a table names the layers of the deepest model, whichever comes first") {
    eval::CacheTableRow shallow{"shallow", {}, {}}, deep{"deep", {}, {}};
    shallow.sinks = {.positions = 1, .layers = 1, .heads = 1, .sink_rate = {0.5}, .share = {0.25}};
    deep.sinks = {.positions = 1, .layers = 3, .heads = 1, .sink_rate = {0.5}, .share = {0.25, 0.5, 0.75}};
    const std::string text = eval::format_cache_table({shallow, deep});
    INFO(text);
    CHECK(text.find("layer 0  layer 1  layer 2\n") != std::string::npos);
}

TEST_CASE("a mixture's cell: the plan's losses, name and memory") {
    Setup setup(0);
    setup.text.resize(60);  // within the model's positions, beyond which a plan does not reach
    const auto mixture = [&](int64_t wide) {
        eval::StreamingOptions options;
        options.chunk = 13;
        options.policy = eval::Mixture{};
        const infer::SpanRule narrow{10, 0};  // a span and the query's own position
        options.plan = eval::NamedPlan{fmt::format("wide {}", wide),
                                       {.layers = 2,
                                        .entries = 2,
                                        .rules = {narrow, {static_cast<double>(wide + 1), 0}, narrow, narrow},
                                        .block = 1,
                                        .sinks = 0}};
        return options;
    };
    const auto window = setup.run(bounded(0, 9)), same = setup.run(mixture(9)), wide = setup.run(mixture(29));
    CHECK(same.loss == Approx(window.loss).epsilon(1e-6));  // without sinks the rules of positions are one
    CHECK(std::abs(wide.loss - window.loss) > 1e-4);
    CHECK(wide.plan == "wide 29");
    CHECK(eval::kind_name(wide.policy) == "moa");
    CHECK(eval::total_positions(wide.policy) == 30);
    CHECK_FALSE(same_subject(same, wide));
    CHECK_FALSE(same_subject(same, window));
    // 60 positions: 10 slots in three heads and 30 in one, of 8 dims.
    CHECK(wide.density == Approx(60.0 / 240));
    CHECK(wide.kv_bytes == 60 * 2 * 8 * 4);
    CHECK(setup.run({}).density == 1.0);
    CHECK_THROWS_AS(setup.run([&] {
        auto options = mixture(9);
        options.method = StreamingMethod::cache;
        return options;
    }()),
                    UserError);
}

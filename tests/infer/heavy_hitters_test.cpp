// H2O in the engine's cache against the published algorithm, written down literally: lists of positions, scores in
// double, a whole matrix of attention.
#include "infer/heavy_rows.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/infer/attention_on_host.h"
#include "tests/model/family_configs.h"

#include <map>
#include <set>

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

struct HeavyBudget {
    int64_t heavy, recent;
};

/// H2O's cache of one key-value head: positions and their scores.
class HeavyHitters {
  public:
    explicit HeavyHitters(HeavyBudget budget) : budget_(budget) {}

    void add(int64_t position) { scores_[position] = 0; }
    double& score(int64_t position) { return scores_.at(position); }
    std::vector<int64_t> positions() const {
        std::vector<int64_t> out;
        for (const auto& [position, score] : scores_) out.push_back(position);
        return out;
    }
    /// After a forward step: the last R, and the H of the others with the highest scores.
    void drop() {
        const auto all = positions();
        const int64_t others = std::ssize(all) - budget_.recent;
        if (others <= budget_.heavy) return;
        std::vector<int64_t> rest(all.begin(), all.begin() + others);
        std::stable_sort(rest.begin(), rest.end(),
                         [&](int64_t a, int64_t b) { return scores_[a] < scores_[b]; });  // of equals the older first
        for (int64_t i = 0; i < others - budget_.heavy; ++i) scores_.erase(rest[static_cast<size_t>(i)]);
        CHECK(std::ssize(scores_) == budget_.heavy + budget_.recent);
    }

  private:
    HeavyBudget budget_;
    std::map<int64_t, double> scores_;
};

/// Whether query i sees key j where the model has a window.
bool in_window(const HostAttention& x, int64_t i, int64_t j) {
    const int64_t window = x.config.span_of_layer(x.layer);
    return window == 0 || i - j <= window || j < x.config.num_sink_tokens;
}

/// A prompt read at once, then token by token.
void attend_h2o(HostAttention& x, HeavyBudget budget, int64_t prompt) {
    for (int64_t g = 0; g < x.G; ++g) {
        HeavyHitters cache(budget);
        for (int64_t i = 0; i < x.T; ++i) {
            cache.add(i);
            for (int64_t h = g * (x.H / x.G); h < (g + 1) * (x.H / x.G); ++h) {
                std::vector<int64_t> keys;
                std::vector<double> logits;
                for (const int64_t j : cache.positions())
                    if (in_window(x, i, j)) keys.push_back(j), logits.push_back(x.logit(i, i, h, j, j));
                const auto weights = x.attend(i, h, keys, logits);
                for (size_t n = 0; n < keys.size(); ++n) cache.score(keys[n]) += weights[n];
            }
            if (i + 1 >= prompt) cache.drop();
        }
    }
}

std::vector<double> published(Context& context, model::Transformer& model, const ScoredText& s, HeavyBudget budget,
                              int64_t prompt) {
    return losses_by_host(context, model, s, [&](HostAttention& x) { attend_h2o(x, budget, prompt); });
}

CachePlan heavy_plan(const model::ModelConfig& config, HeavyBudget budget) {
    return CachePlan::heavy_hitters(budget.heavy, budget.recent, config.num_layers, config.num_heads);
}

}  // namespace

TEST_CASE("h2o: the paged cache = the published algorithm, exactly", "[not_cuda]") {
    if (!has_f64()) return;
    const ScoredText s(21, 140, 23);
    for (const auto position : {model::Position::rope, model::Position::alibi}) {
        const auto config = llama_with(position, {0, 30});
        Context context(test_device(), 2);
        model::Transformer model(context, config, Dtype::f64);
        randomise(context, model.weights(), 9, 0.4);
        for (const HeavyBudget budget : {HeavyBudget{5, 7}, {0, 9}, {20, 1}, {66, 14}})
            for (const int64_t prompt : {1, 13, 77, 140}) {
                if (test_device() != Device::cpu && (prompt != 77 || budget.heavy % 20 == 0))
                    continue;  // takes its time
                INFO("position " << static_cast<int>(position) << " heavy " << budget.heavy << " recent "
                                 << budget.recent << " prompt " << prompt);
                CachedModel cached(context, model, heavy_plan(config, budget), {.prefill_chunk = 32});
                CHECK(largest_difference(cached_losses(context, model, cached, s, prompt),
                                         published(context, model, s, budget, prompt)) <= 1e-10);
                CHECK(cached.sizes().shape.rows(140) == 2 * 2 * (budget.heavy + budget.recent + 1));
            }
    }
}

TEST_CASE("h2o: every family", "[cpu]") {
    size_t which = 0;
    for (const auto& [name, config] : family_configs()) {
        if (model::rope_depends_on_length(config)) continue;
        const bool exact = has_f64();
        Context context(test_device(), 2);
        model::Transformer model(context, config, exact ? Dtype::f64 : Dtype::f32);
        randomise(context, model.weights(), 11);
        const ScoredText s(5, 50, config.num_sink_tokens > 0 ? config.sink_token_id : config.vocab_size);
        const int64_t prompt = std::array{int64_t{1}, int64_t{29}}[which++ % 2];
        INFO(name << ", prompt of " << prompt);
        CachedModel cached(context, model, heavy_plan(config, {6, 5}), {.prefill_chunk = 8});
        CHECK(largest_difference(cached_losses(context, model, cached, s, prompt),
                                 published(context, model, s, {6, 5}, prompt)) <= (exact ? 1e-10 : 1e-4));
        CHECK(cached.free_blocks() == cached.sizes().options.blocks);
    }
}

TEST_CASE("h2o: in f32, and over a narrower cache") {
    auto config = tiny_llama();
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const ScoredText s(21, 60, 23);
    const auto expected = published(context, model, s, {6, 5}, 9);
    CachedModel cached(context, model, heavy_plan(config, {6, 5}), {.prefill_chunk = 16});
    const auto losses = cached_losses(context, model, cached, s, 9);
    CHECK(largest_difference(losses, expected) <= 1e-4);
    CHECK(cached_losses(context, model, cached, s, 9) == losses);  // nothing is left of a text that was there before
    CachedModel narrow(context, model, heavy_plan(config, {6, 5}), {.prefill_chunk = 16, .dtype = Dtype::bf16});
    CHECK(relative_error(cached_losses(context, model, narrow, s, 9), expected) <= 5e-2);
}

TEST_CASE("h2o: with no heavy position it is the window, to the bit, and with room for all it is dense") {
    auto config = tiny_llama();
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const ScoredText s(21, 60, 23);
    const CachePlan window(2, 4, std::vector<HeadCache>(8, {.sinks = 0, .span = 11}), PositionRule::absolute);
    const auto losses = [&](const CachePlan& plan, int64_t prompt) {
        CachedModel cached(context, model, plan, {.prefill_chunk = 16});
        return cached_losses(context, model, cached, s, prompt);
    };
    CHECK(losses(heavy_plan(config, {0, 11}), 1) == losses(window, 1));
    CHECK(losses(heavy_plan(config, {50, 10}), 40) == losses(CachePlan::uniform(CachePolicy::dense(), 2, 4), 40));
}

TEST_CASE("h2o: a prompt keeps its last positions and the heaviest before them") {
    const HeadCache head{.sinks = 0, .span = 3, .heavy = 2};
    const std::vector<double> scores{4, 1, 9, NAN, 4, 4, 0, 0, 0};
    CHECK(heavy_rows(head, std::span(scores).first(5)) == std::vector<int64_t>{0, 1, 2, 3, 4});
    CHECK(heavy_rows(head, std::span(scores).first(6)) == std::vector<int64_t>{0, 1, 2, 3, 4, 5});
    CHECK(heavy_rows(head, std::span(scores).first(7)) == std::vector<int64_t>{0, 1, 2, 4, 5, 6});
    CHECK(heavy_rows(head, scores) == std::vector<int64_t>{2, 4, 5, 6, 7, 8});  // of equals the later ones
}

TEST_CASE("h2o: all of its memory is planned, and what cannot be is refused") {
    auto config = tiny_llama();
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const CacheOptions options{.max_batch = 3, .prefill_chunk = 16, .max_prompt = 40};
    const CacheSizes sizes(config, Dtype::f32, heavy_plan(config, {6, 5}), options);
    // A block's rows have keys, values, a position and a score; a dense one's have no score.
    CHECK(sizes.block_bytes() == 64 * (2 * 8 * 4 + 4 + 4));
    CHECK(sizes.cache_bytes(64) == 2 * 2 * sizes.block_bytes());
    CHECK(sizes.dense_bytes(64) == 2 * 2 * 64 * (2 * 8 * 4 + 4));
    const auto memory = CachedModel::memory(context, config, Dtype::f32, Dtype::f32, sizes);
    CHECK(memory[0].second == 3 * 2 * 2 * sizes.block_bytes());
    CHECK(memory[2].second > 2 * 40 * 2 * (2 * 8 + 1) * 4);  // the prompt's keys, values and scores in both layers

    CachedModel cached(context, model, heavy_plan(config, {6, 5}), options);
    const size_t scratch = context.scratch().capacity();
    const ScoredText s(21, 60, 23);
    cached_losses(context, model, cached, s, 40);
    CHECK(context.scratch().capacity() == scratch);

    const auto refusal = [&](HeavyBudget budget, const CacheOptions& wanted = {}) {
        return message_of([&] { CachedModel(context, model, heavy_plan(config, budget), wanted); });
    };
    CHECK_THAT(refusal({-1, 4}), ContainsSubstring("no cache of -1 heavy"));
    CHECK_THAT(refusal({4, 0}), ContainsSubstring("at least one recent"));
    CHECK_THAT(refusal({60, 5}), ContainsSubstring("a cache of 65 positions is larger than the 64"));
    CHECK_THAT(refusal({int64_t{1} << 62, int64_t{1} << 62}), ContainsSubstring("more than any text has"));
    CHECK_THAT(refusal({6, 5}, {.blocks = int64_t{1} << 60}), ContainsSubstring("at most 33554430 blocks"));
    CHECK_THAT(refusal({6, 5}, {.max_positions = 65}),
               ContainsSubstring("longer than the 64 the model was trained on"));
    CHECK_THROWS_AS(CachePlan(1, 2, {{0, 5, 3}, {0, 5}}, PositionRule::absolute), InternalError);
    CHECK_THROWS_AS(CachePlan(1, 1, {{0, 5, 3}}, PositionRule::in_cache), InternalError);
}

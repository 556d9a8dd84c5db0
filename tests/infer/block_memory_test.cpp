// InfLLM in the engine's cache against the published algorithm, written down literally: a whole matrix of attention in
// double, keys that are rotated where a query reads them.
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/infer/attention_on_host.h"
#include "tests/model/family_configs.h"

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kBlock = 64, kRepresentatives = 4;

struct Budget {
    int64_t initial, local, blocks;
};

/// One layer of InfLLM, token by token (execution blocks of one query).
class InfLlm {
  public:
    InfLlm(HostAttention& x, Budget budget)
        : x_(x),
          budget_(budget),
          scores_(static_cast<size_t>(x.G), std::vector<double>(static_cast<size_t>(x.T), 0.0)) {}

    void run() {
        for (int64_t i = 0; i < x_.T; ++i) {
            const int64_t far =
                std::max<int64_t>(0, i - budget_.local + 1);  // positions [0, far) are not local any more
            const std::vector<int64_t> global = global_keys(i, far);
            for (int64_t h = 0; h < x_.H; ++h) attend(i, h, far, global);
            const int64_t whole = far / kBlock;  // blocks that have left the local window with this token
            if (whole > std::ssize(representatives_)) representatives_.push_back(representative(whole - 1));
        }
    }

  private:
    /// Initial positions, the retrieved blocks, and what is not yet in a block.
    std::vector<int64_t> global_keys(int64_t i, int64_t far) const {
        std::vector<int64_t> keys;
        const auto blocks = std::ssize(representatives_);
        std::vector<std::pair<double, int64_t>> relevance;
        for (int64_t n = budget_.initial / kBlock; n < blocks; ++n) relevance.emplace_back(-similarity(i, n), n);
        std::stable_sort(relevance.begin(), relevance.end());
        relevance.resize(std::min(relevance.size(), static_cast<size_t>(budget_.blocks)));
        for (int64_t j = 0; j < far; ++j) {
            const bool retrieved = std::any_of(relevance.begin(), relevance.end(),
                                               [&](const auto& block) { return block.second == j / kBlock; });
            if (j < budget_.initial || retrieved || j >= blocks * kBlock) keys.push_back(j);
        }
        return keys;
    }
    /// The query at the fixed place against a block's representative, all heads.
    double similarity(int64_t i, int64_t n) const {
        double sum = 0;
        for (int64_t h = 0; h < x_.H; ++h) {
            const auto q = x_.rotated(x_.query(i, h), budget_.local - 1);
            const double* key =
                &representatives_[static_cast<size_t>(n)][static_cast<size_t>(h / (x_.H / x_.G) * x_.D)];
            for (int64_t d = 0; d < x_.D; ++d) sum += q[static_cast<size_t>(d)] * key[d];
        }
        return sum;
    }
    void attend(int64_t i, int64_t h, int64_t far, const std::vector<int64_t>& global) {
        std::vector<int64_t> keys = global;
        std::vector<double> logits;
        for (const int64_t j : global) logits.push_back(x_.logit(i, budget_.local - 1, h, j, 0));
        for (int64_t j = far; j <= i; ++j) keys.push_back(j), logits.push_back(x_.logit(i, i, h, j, j));
        const auto weights = x_.attend(i, h, keys, logits);
        for (size_t n = global.size(); n < keys.size(); ++n)
            scores_[static_cast<size_t>(h / (x_.H / x_.G))][static_cast<size_t>(keys[n])] += weights[n];
    }
    /// The mean key, not rotated, of the positions with the highest scores, by key-value head.
    std::vector<double> representative(int64_t n) const {
        std::vector<double> out;
        for (int64_t g = 0; g < x_.G; ++g) {
            std::vector<int64_t> order;
            for (int64_t j = n * kBlock; j < (n + 1) * kBlock; ++j) order.push_back(j);
            std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
                return scores_[static_cast<size_t>(g)][static_cast<size_t>(a)] >
                       scores_[static_cast<size_t>(g)][static_cast<size_t>(b)];
            });
            for (int64_t d = 0; d < x_.D; ++d) {
                double sum = 0;
                for (int64_t r = 0; r < kRepresentatives; ++r) sum += x_.key(order[static_cast<size_t>(r)], g)[d];
                out.push_back(sum / kRepresentatives);
            }
        }
        return out;
    }

    HostAttention& x_;
    Budget budget_;
    std::vector<std::vector<double>> scores_;           // [G,T]
    std::vector<std::vector<double>> representatives_;  // by block, [G,D]
};

std::vector<double> published(Context& context, model::Transformer& model, const ScoredText& s, Budget budget) {
    return losses_by_host(context, model, s, [&](HostAttention& x) { InfLlm(x, budget).run(); });
}

CachePlan plan_of(const model::ModelConfig& config, Budget budget) {
    return CachePlan::block_memory(budget.initial, budget.local, budget.blocks, config.num_layers, config.num_heads);
}

model::ModelConfig long_llama() {
    auto config = tiny_llama();
    config.max_position_embeddings = 128;  // fewer than the texts have
    return config;
}

/// A conversation: `piece` tokens as a prompt, then three one by one, again and again.
std::vector<double> losses_in_pieces(Context& context, model::Transformer& model, CachedModel& cached,
                                     const ScoredText& s, int64_t piece) {
    const auto length = std::ssize(s.tokens);
    CachedText text = cached.open(length);
    CachedText* const one = &text;
    std::vector<double> out;
    const auto add = [&](int64_t count) {
        const auto targets = std::span(s.targets).subspan(out.size(), static_cast<size_t>(count));
        const auto losses = losses_of_step(context, model, cached, targets);
        out.insert(out.end(), losses.begin(), losses.end());
    };
    const auto tokens = [&](int64_t count) {
        return std::span(s.tokens).subspan(out.size(), static_cast<size_t>(count));
    };
    while (text.position < length) {
        const int64_t end = std::min(length, text.position + piece);
        while (text.position < end) {
            const int64_t count = cached.next_chunk(text, end - text.position);
            cached.prefill(text, tokens(count));
            add(count);
        }
        cached.end_prompt(text);
        for (int i = 0; i < 3 && text.position < length; ++i) {
            cached.decode({&one, 1}, tokens(1));
            add(1);
        }
    }
    return out;
}

}  // namespace

TEST_CASE("infllm: the paged cache = the published algorithm, exactly", "[not_cuda]") {
    if (!has_f64()) return;
    const bool on_cpu = test_device() == Device::cpu;  // the executor takes its time
    const ScoredText s(21, on_cpu ? 330 : 200, 23);
    for (const auto position : {model::Position::rope, model::Position::alibi}) {
        if (!on_cpu && position != model::Position::rope) continue;
        auto config = long_llama();
        config.position = position;
        config.rotary_pct = position == model::Position::rope ? 0.5 : 0;
        config.normaliser = Normaliser::sink_logit;
        Context context(test_device(), 2);
        model::Transformer model(context, config, Dtype::f64);
        randomise(context, model.weights(), 9, 0.4);
        for (const Budget budget : {Budget{64, 64, 1}, {0, 64, 1}, {64, 128, 1}, {128, 64, 0}}) {
            if (!on_cpu && budget.initial > 0) continue;
            INFO("position " << static_cast<int>(position) << " initial " << budget.initial << " local " << budget.local
                             << " blocks " << budget.blocks);
            const auto expected = published(context, model, s, budget);
            CachedModel cached(context, model, plan_of(config, budget), {.max_positions = 330});
            // Prompts that end before, on and after the edges of blocks and of the ring; the other tokens one by one.
            for (const int64_t prompt :
                 on_cpu ? std::vector<int64_t>{0, 1, 63, 64, 65, 129, 330} : std::vector<int64_t>{0, 65, 200}) {
                INFO("prompt " << prompt);
                CHECK(largest_difference(cached_losses(context, model, cached, s, prompt), expected) <= 1e-10);
            }
            CHECK(cached.free_blocks() == cached.sizes().options.blocks);
        }
    }
}

TEST_CASE("infllm: a long prompt in chunks = the published algorithm = token by token", "[cpu]") {
    if (!has_f64()) return;
    auto config = long_llama();
    config.normaliser = Normaliser::sink_logit;
    config.vocab_size = 997;  // with few tokens, blocks of so long a text have the same representatives
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f64);
    randomise(context, model.weights(), 9, 0.4);
    const ScoredText s(21, 1000, config.vocab_size);
    const Budget budget{64, 128, 2};
    const auto expected = published(context, model, s, budget);
    CachedModel cached(context, model, plan_of(config, budget), {.max_positions = 1000});
    CHECK(largest_difference(cached_losses(context, model, cached, s, 1000), expected) <= 1e-10);
    CHECK(largest_difference(cached_losses(context, model, cached, s, 0), expected) <= 1e-10);
}

TEST_CASE("infllm: a text may be given in pieces of any length, between tokens of its own") {
    auto config = long_llama();
    const bool on_cpu = test_device() == Device::cpu;
    const Dtype dtype = on_cpu ? Dtype::f64 : Dtype::f32;
    Context context(test_device(), 2);
    model::Transformer model(context, config, dtype);
    randomise(context, model.weights(), 9, 0.4);
    const ScoredText s(21, on_cpu ? 300 : 140, 23);
    const Budget budget{0, 64, 1};
    const auto expected = published(context, model, s, budget);
    for (const int64_t chunk : on_cpu ? std::vector<int64_t>{256, 48, 1} : std::vector<int64_t>{48}) {
        CachedModel cached(context, model, plan_of(config, budget), {.prefill_chunk = chunk, .max_positions = 300});
        for (const int64_t piece : on_cpu ? std::vector<int64_t>{1, 63, 64, 65, 127} : std::vector<int64_t>{65}) {
            INFO("chunks of " << chunk << ", pieces of " << piece);
            CHECK(largest_difference(losses_in_pieces(context, model, cached, s, piece), expected) <=
                  (dtype == Dtype::f64 ? 1e-10 : 1e-4));
        }
    }
}

TEST_CASE("infllm: in f32, over a narrower cache, and with families' heads") {
    auto config = tiny_falcon();  // one key-value head
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.3);
    const ScoredText s(21, 150, 23);
    const Budget budget{0, 64, 1};
    const auto expected = published(context, model, s, budget);
    const CacheOptions options{.prefill_chunk = 16, .max_positions = 150};
    CachedModel cached(context, model, plan_of(config, budget), options);
    const auto losses = cached_losses(context, model, cached, s, 30);
    CHECK(largest_difference(losses, expected) <= 1e-4);
    CHECK(cached_losses(context, model, cached, s, 30) == losses);  // nothing is left of a text that was there before
    CacheOptions narrow_options = options;
    narrow_options.dtype = Dtype::bf16;
    CachedModel narrow(context, model, plan_of(config, budget), narrow_options);
    CHECK(relative_error(cached_losses(context, model, narrow, s, 30), expected) <= 5e-2);
}

TEST_CASE("infllm: all of its memory is planned, and what cannot be is refused") {
    auto config = long_llama();
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const CacheOptions options{.max_batch = 2, .max_positions = 300};
    const CacheSizes sizes(config, Dtype::f32, plan_of(config, {64, 128, 1}), options);
    // Rows have keys, values, a position and a score; blocks have a representative. The ring has a block to spare.
    CHECK(sizes.block_bytes() == 64 * (2 * 8 * 4 + 4 + 4) + 8 * 4);
    CHECK(sizes.cache_bytes(300) == 2 * 2 * (3 + 5) * sizes.block_bytes());
    CHECK(CachedModel::memory(context, config, Dtype::f32, Dtype::f32, sizes).front().second >=
          2 * sizes.cache_bytes(300));
    CachedModel cached(context, model, plan_of(config, {64, 128, 1}), options);
    const size_t scratch = context.scratch().capacity();
    cached_losses(context, model, cached, ScoredText(21, 140, 23), 40);
    CHECK(context.scratch().capacity() == scratch);

    // No more is planned than a text of 300 positions can use, whatever is asked for.
    const auto bytes = [&](int64_t blocks, int64_t chunk) {
        const CacheSizes of(config, Dtype::f32, plan_of(config, {64, 128, blocks}),
                            {.max_batch = 2, .prefill_chunk = chunk, .max_positions = 300});
        return total_bytes(CachedModel::memory(context, config, Dtype::f32, Dtype::f32, of));
    };
    CHECK(bytes(1 << 20, 256) == bytes(5, 256));
    CHECK(bytes(5, 256) > bytes(4, 256));
    CHECK(bytes(5, 1 << 20) == bytes(5, 300));

    const auto refusal = [&](Budget budget, const CacheOptions& wanted = {}) {
        return message_of([&] { CachedModel(context, model, plan_of(config, budget), wanted); });
    };
    CHECK_THAT(refusal({60, 64, 1}), ContainsSubstring("60 initial") && ContainsSubstring("multiples of 64"));
    CHECK_THAT(refusal({0, 0, 1}), ContainsSubstring("at least 64 recent"));
    CHECK_THAT(refusal({0, 64, -1}), ContainsSubstring("-1 blocks"));
    CHECK_THAT(refusal({0, 64, int64_t{1} << 62}), ContainsSubstring("more than any text has"));
    CHECK_THAT(refusal({0, 192, 1}), ContainsSubstring("a cache of 192 positions is larger than the 128"));
    config.attention_span = {0, 30};
    model::Transformer windowed(context, config, Dtype::f32);
    CHECK_THAT(message_of([&] {
                   CachedModel(context, windowed, plan_of(config, {0, 64, 1}), {});
               }),
               ContainsSubstring("layer 1 has a window of 30"));
}

TEST_CASE("infllm: with enough blocks every query reads everything once", "[cpu]") {
    // Without positions a far key is read as a near one, so this is dense attention.
    auto config = long_llama();
    config.position = model::Position::none;
    config.rotary_pct = 0;
    config.max_position_embeddings = 512;
    Context context(test_device(), 2);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const ScoredText s(21, 200, 23);
    const auto losses = [&](const CachePlan& plan) {
        CachedModel cached(context, model, plan, {.prefill_chunk = 16});
        return cached_losses(context, model, cached, s, 1);
    };
    const auto dense = losses(CachePlan::uniform(CachePolicy::dense(), 2, 4));
    CHECK(largest_difference(losses(plan_of(config, {64, 64, 2})), dense) <= 1e-4);
    CHECK(largest_difference(losses(plan_of(config, {0, 64, 1})), dense) > 1e-3);
}

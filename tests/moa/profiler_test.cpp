// Items as a model reads them, and influence against what masking one attention value really does.
#include "moa/profiler.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include "base/atomic_file.h"
#include "infer/span_plan.h"
#include "moa/optimise.h"
#include "moa/validate.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/model/model_fixture.h"

using namespace ballast;
using namespace ballast::moa;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kLength = 24, kKeysABlock = 4;

struct Model {
    Context context{Device::cpu, 2};
    model::Transformer model;

    Model() : model(context, config(), Dtype::f32) { randomise(context, model.weights(), 9, 0.4); }
    static model::ModelConfig config() {
        auto config = tiny_config();
        config.num_heads = 4;
        config.num_key_value_heads = 2;
        config.rotary_pct = 0.5;
        return config;
    }
};

ItemTokens item(uint32_t seed, int64_t length, int64_t answer) {
    return {random_ids(seed, static_cast<size_t>(length), 23), length - answer};
}

/// Mean loss on the answer when each head sees `span` earlier positions and the first `sinks`.
double masked_loss(Model& m, const ItemTokens& tokens, const std::vector<int64_t>& sizes, int64_t sinks) {
    infer::SpanPlan plan;
    plan.layers = 2;
    plan.entries = 4;
    plan.block = 1;
    plan.sinks = sinks;
    for (const int64_t size : sizes) plan.rules.push_back({static_cast<double>(size), 0});
    return validation_loss(m.context, m.model, plan, {tokens}, [](int64_t) {});
}

}  // namespace

TEST_CASE("moa items: targets are the answer's tokens, one place earlier") {
    const ItemTokens tokens{{5, 6, 7, 8}, 2};
    CHECK(tokens.scored() == 2);
    CHECK(tokens.targets(6) == std::vector<int32_t>{-1, 7, 8, -1, -1, -1});
    CHECK(items_of_length({item(1, 12, 2), item(1, 16, 2), item(1, 13, 2), item(1, 17, 2)}, 16).size() == 2);
}

TEST_CASE("moa items: files come back, hostile ones are refused by line") {
    const TemporaryFolder folder;
    const std::vector<Item> items{{"a\n\"b\"", "é", ItemKind::model}, {"", "c", ItemKind::plain}};
    write_items(folder / "items.jsonl", items);
    CHECK(read_items(folder / "items.jsonl") == items);
    const auto refusal = [&](const std::string& text) {
        write_file(folder / "bad.jsonl", text);
        return message_of([&] { read_items(folder / "bad.jsonl"); });
    };
    CHECK_THAT(refusal(""), ContainsSubstring("bad.jsonl: no item"));
    CHECK_THAT(refusal("\n{"), ContainsSubstring("bad.jsonl:2"));
    CHECK_THAT(refusal("[]"), ContainsSubstring("bad.jsonl:1: an item is an object"));
    CHECK_THAT(refusal(R"({"prompt": "a", "answer": 7, "kind": "model"})"), ContainsSubstring("an item is an object"));
    CHECK_THAT(refusal(R"({"prompt": "a", "answer": "b", "kind": "other"})"),
               ContainsSubstring("\"other\" is none of model"));
}

TEST_CASE("moa profile: blocks sum up what single values have, by layer and head") {
    Model m;
    const ItemTokens tokens = item(3, kLength, 6);
    Profile fine = empty_profile(m.model.config(), {kLength}, 1, 0),
            coarse = empty_profile(m.model.config(), {kLength}, kKeysABlock, 0);
    const double loss = Profiler(m.context, m.model, kLength, 1, 0).add(tokens, fine.lengths[0]);
    Profiler blocks(m.context, m.model, kLength, kKeysABlock, 0);
    blocks.add(tokens, coarse.lengths[0]);
    CHECK(loss == Approx(validation_loss(m.context, m.model, std::nullopt, {tokens}, [](int64_t) {})).epsilon(1e-5));
    CHECK(fine.lengths[0].loss == loss);
    CHECK(fine.lengths[0].answer_tokens == 6);
    std::vector<double> absolute(coarse.lengths[0].absolute.size()), signed_sum = absolute;
    constexpr int64_t n = kLength / kKeysABlock;
    for (int64_t head = 0; head < 8; ++head)
        for (int64_t i = 0; i < kLength; ++i)
            for (int64_t j = 0; j < kLength; ++j) {
                const auto from = static_cast<size_t>((head * kLength + i) * kLength + j),
                           to = static_cast<size_t>((head * n + i / kKeysABlock) * n + j / kKeysABlock);
                absolute[to] += fine.lengths[0].absolute[from];
                signed_sum[to] += fine.lengths[0].signed_sum[from];
                CHECK(fine.lengths[0].absolute[from] ==
                      Approx(std::abs(fine.lengths[0].signed_sum[from])).margin(1e-12));
            }
    CHECK(relative_error(coarse.lengths[0].absolute, absolute) < 1e-5);
    CHECK(relative_error(coarse.lengths[0].signed_sum, signed_sum) < 1e-4);
    // A second item adds to the first.
    const auto before = coarse.lengths[0].absolute;
    const ItemTokens second = item(4, kLength - 3, 6);
    Profile alone = empty_profile(m.model.config(), {kLength}, kKeysABlock, 0);
    Profiler(m.context, m.model, kLength, kKeysABlock, 0).add(second, alone.lengths[0]);
    blocks.add(second, coarse.lengths[0]);
    CHECK(coarse.lengths[0].sequences == 2);
    for (size_t i = 0; i < before.size(); ++i)
        REQUIRE(coarse.lengths[0].absolute[i] == before[i] + alone.lengths[0].absolute[i]);
}

TEST_CASE("moa profile: influence is what the loss does when a head loses its farthest value") {
    // Two tokens are scored, at the end, and a head loses one value of the second's query. In the last layer nothing
    // but that query's own output reaches the loss, so E is the change of the loss to first order. (Exactness for a
    // linear loss is the op's own test.)
    int agreeing = 0, cases = 0;
    for (uint32_t seed = 1; seed <= 6; ++seed) {
        Model m;
        ItemTokens tokens = item(seed, kLength + 1, 2);
        tokens.ids.pop_back();
        tokens.first_scored = kLength - 2;
        Profile fine = empty_profile(m.model.config(), {kLength}, 1, 0);
        Profiler(m.context, m.model, kLength, 1, 0).add(tokens, fine.lengths[0]);
        const std::vector<int64_t> all(8, kLength);
        const double dense = masked_loss(m, tokens, all, 0);
        for (int64_t head = 4; head < 8; ++head) {  // of layer 1
            std::vector<int64_t> sizes = all;
            sizes[static_cast<size_t>(head)] = kLength - 2;  // query 22, the second that is scored, loses key 0
            const double change = masked_loss(m, tokens, sizes, 0) - dense;
            const int64_t query = kLength - 2;
            const double predicted =
                fine.lengths[0].signed_sum[static_cast<size_t>((head * kLength + query) * kLength)];
            ++cases;
            if (std::abs(change - predicted) <= 0.3 * std::abs(change) + 2e-6) ++agreeing;
        }
    }
    CHECK(agreeing >= cases * 8 / 10);
}

TEST_CASE("moa profile: second-order losses are what a narrower head costs the model's own predictions") {
    // One token is scored, so the expected loss under labels of the dense model is a sum over the vocabulary, and what
    // a narrower head adds to it the divergence of its predictions.
    constexpr int64_t kDraws = 300, kCache = 3 * kKeysABlock, kIds = 23;
    Model m;
    randomise(m.context, m.model.weights(), 11, 0.12);
    const ItemTokens tokens = item(5, kLength, 1);
    Profile profile = empty_profile(m.model.config(), {kLength}, kKeysABlock, kDraws);
    Profiler(m.context, m.model, kLength, kKeysABlock, kDraws).add(tokens, profile.lengths[0]);
    CHECK(profile.lengths[0].draws == kDraws);
    const std::vector<int64_t> all(8, kLength);
    const auto losses = [&](const std::vector<int64_t>& sizes) {
        std::vector<double> out;
        for (int32_t label = 0; label < kIds; ++label) {
            ItemTokens labelled = tokens;
            labelled.ids.back() = label;
            out.push_back(masked_loss(m, labelled, sizes, kKeysABlock));
        }
        return out;
    };
    const std::vector<double> dense = losses(all);
    double predicted = 0, measured = 0;
    const std::vector<double> of_heads = second_order_losses(profile, profile.lengths[0], true, kCache);
    for (size_t head = 0; head < 8; ++head) {
        std::vector<int64_t> sizes = all;
        sizes[head] = kCache;
        const std::vector<double> narrow = losses(sizes);
        double divergence = 0;
        for (size_t y = 0; y < dense.size(); ++y) divergence += std::exp(-dense[y]) * (narrow[y] - dense[y]);
        INFO("head " << head << ": " << of_heads[head] << " said, " << divergence << " measured");
        CHECK(divergence > 0);
        CHECK(of_heads[head] > 0.5 * divergence);
        CHECK(of_heads[head] < 2 * divergence);
        predicted += of_heads[head];
        measured += divergence;
    }
    CHECK(predicted == Approx(measured).epsilon(0.25));
}

TEST_CASE("moa profile: labels are drawn anew for every item, and the same ones again") {
    Model m;
    const ItemTokens tokens = item(6, kLength, 5);
    const auto profile_of = [&](int64_t items) {
        Profile profile = empty_profile(m.model.config(), {kLength}, kKeysABlock, 2);
        Profiler profiler(m.context, m.model, kLength, kKeysABlock, 2);
        for (int64_t i = 0; i < items; ++i) profiler.add(tokens, profile.lengths[0]);
        return profile;
    };
    const Profile one = profile_of(1), two = profile_of(2);
    CHECK(one == profile_of(1));
    CHECK(two.lengths[0].draws == 4);
    CHECK(two.lengths[0].absolute[0] == 2 * one.lengths[0].absolute[0]);
    CHECK(two.lengths[0].second_order_heads[0] != Approx(2 * one.lengths[0].second_order_heads[0]));
    // A group's effect is the sum of its two heads', so its mean square lies between these (Minkowski).
    const auto& heads = one.lengths[0].second_order_heads;
    const auto& groups = one.lengths[0].second_order_groups;
    REQUIRE(2 * groups.size() == heads.size());
    const size_t spans = static_cast<size_t>(kLength / kKeysABlock - 1);
    double off_the_sum = 0;
    for (size_t g = 0; g < 4; ++g) {
        const double a = std::sqrt(heads[2 * g * spans]), b = std::sqrt(heads[(2 * g + 1) * spans]);
        const double together = std::sqrt(groups[g * spans]);
        CHECK(together <= (a + b) * (1 + 1e-6));
        CHECK(together >= std::abs(a - b) * (1 - 1e-6));
        off_the_sum = std::max(off_the_sum, std::abs(together * together / (a * a + b * b) - 1));
    }
    CHECK(off_the_sum > 0.01);
}

TEST_CASE("moa profile: no more memory is taken than was planned") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return;  // they have memory of their own
#else
    // The distributions of all scored tokens would be 256 MiB.
    constexpr int64_t kTokens = 512, kIds = 1 << 16;
    model::ModelConfig config = Model::config();
    config.vocab_size = kIds;
    config.max_position_embeddings = kTokens;
    Context context(Device::cpu, 1);
    model::Transformer model(context, config, Dtype::f32);
    randomise(context, model.weights(), 9, 0.4);
    const auto peak = [] {
        rusage usage{};
        ::getrusage(RUSAGE_SELF, &usage);
        return usage.ru_maxrss * 1024;
    };
    const size_t planned = infer::total_bytes(Profiler::memory(context, config, Dtype::f32, {kTokens}, kTokens / 8, 2));
    const int64_t before = peak();
    Profile profile = empty_profile(config, {kTokens}, kTokens / 8, 2);
    Profiler(context, model, kTokens, kTokens / 8, 2).add(item(3, kTokens, kTokens - 1), profile.lengths[0]);
    CHECK(profile.lengths[0].draws == 2);
    CHECK(peak() - before <= static_cast<int64_t>(planned) + (int64_t{16} << 20));
#endif
}

TEST_CASE("moa profile: lengths and items that cannot be are refused") {
    Model m;
    CHECK_THAT(message_of([&] { empty_profile(m.model.config(), {128}, 4, 0); }), ContainsSubstring("trained on 64"));
    CHECK_THAT(message_of([&] {
                   empty_profile(m.model.config(), {16, 64}, 16, 0);
               }),
               ContainsSubstring("fewer than two blocks"));
    const Profile sorted = empty_profile(m.model.config(), {32, 16, 32}, 4, 0);
    CHECK(sorted.lengths.size() == 2);
    CHECK(sorted.lengths[0].length == 16);
    infer::SpanPlan plan;
    plan.layers = 2;
    plan.entries = 3;
    plan.rules.assign(6, {0, 1});
    CHECK_THAT(message_of([&] { validation_loss(m.context, m.model, plan, {item(1, 16, 2)}, [](int64_t) {}); }),
               ContainsSubstring("the plan is for 2 layers of 3 heads"));
}

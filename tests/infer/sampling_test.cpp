// Sampling against a plain version in double, and the text of an answer.
#include "infer/sampling.h"
#include "infer/text_answer.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <random>

#include "base/error.h"
#include "base/philox.h"

using namespace ballast;
using namespace ballast::infer;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<float> random_logits(uint32_t seed, size_t count) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, 3.0f);
    std::vector<float> out(count);
    for (float& x : out) x = std::round(normal(random) * 4) / 4;  // some are equal
    return out;
}

/// One token by the words of sampling.h: a list of candidates that gets shorter.
int32_t plain(const SamplingParams& s, const std::vector<float>& logits, size_t num_ids, const std::vector<int>& prompt,
              const std::vector<int>& answer, double uniform) {
    struct Candidate {
        int32_t id;
        double x, p;
    };
    std::vector<Candidate> all;
    for (size_t i = 0; i < num_ids; ++i) {
        double x = logits[i];
        const auto id = static_cast<int>(i);
        const auto count = std::count(answer.begin(), answer.end(), id);
        if (count > 0 || std::count(prompt.begin(), prompt.end(), id) > 0)
            x = static_cast<float>(x > 0 ? x / s.repetition_penalty : x * s.repetition_penalty);
        if (count > 0) x -= s.frequency_penalty * static_cast<double>(count) + s.presence_penalty;
        all.push_back({static_cast<int32_t>(i), x, 0});
    }
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.x > b.x; });
    if (s.temperature == 0) return all.front().id;
    const auto probabilities = [&] {
        double total = 0;
        for (auto& c : all) total += c.p = std::exp((c.x - all.front().x) / s.temperature);
        for (auto& c : all) c.p /= total;
    };
    if (s.top_k > 0 && static_cast<size_t>(s.top_k) < all.size())
        std::erase_if(all, [last = all[static_cast<size_t>(s.top_k - 1)].x](const auto& c) { return c.x < last; });
    probabilities();
    double reached = 0;
    size_t kept = 0;
    while (kept < all.size() && reached < s.top_p) reached += all[kept++].p;
    all.resize(kept);
    probabilities();
    std::erase_if(all, [top = all.front().p, &s](const auto& c) { return c.p < s.min_p * top; });
    probabilities();
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    for (const auto& c : all)
        if ((uniform -= c.p) < 0) return c.id;
    return all.back().id;
}

}  // namespace

TEST_CASE("sampling: penalties, filters and draw, in the order that is written down") {
    const std::vector<int> prompt{3, 8, 8, 60};
    std::vector<SamplingParams> cases(9);
    cases[1].temperature = 0.7;
    cases[2].top_k = 5;
    cases[3].top_p = 0.6;
    cases[4].min_p = 0.15;
    cases[5].repetition_penalty = 1.8;
    cases[6].frequency_penalty = 1.3;
    cases[6].presence_penalty = 0.9;
    cases[7] = {.temperature = 1.6,
                .top_k = 20,
                .top_p = 0.8,
                .min_p = 0.05,
                .repetition_penalty = 1.2,
                .presence_penalty = 0.4,
                .frequency_penalty = 0.3,
                .seed = 99,
                .stream = 5};
    cases[8] = {.temperature = 0, .repetition_penalty = 3, .presence_penalty = 2};
    for (size_t which = 0; which < cases.size(); ++which) {
        const SamplingParams& params = cases[which];
        Sampler sampler(params, 50);  // of 64 rows
        sampler.add_prompt(std::vector<int32_t>(prompt.begin(), prompt.end()));
        const Philox random(params.seed, fmt::format("text {}", params.stream));
        std::vector<int> answer;
        for (uint32_t step = 0; step < 60; ++step) {
            INFO("case " << which << " step " << step);
            const auto logits = random_logits(step % 7, 64);
            const int32_t expected = plain(params, logits, 50, prompt, answer, random.uniform(step));
            REQUIRE(sampler.next(logits).id == expected);
            answer.push_back(expected);
        }
    }
}

TEST_CASE("sampling: greedy, by probability, and a temperature flattens or sharpens") {
    const std::vector<float> logits{0.0f, 3.0f, 1.0f};
    CHECK(infer::sample(logits, 0.0, 0.99) == 1);
    CHECK(infer::sample(logits, 1.0, 0.0) == 0);
    CHECK(infer::sample(logits, 1.0, 0.999999) == 2);
    CHECK(infer::sample(logits, 1.0, 0.5) == 1);
    CHECK(infer::sample(logits, 2.0, 0.1) == 0);  // exp(0) is 14 % of the sum
    CHECK(infer::sample(logits, 0.5, 0.1) == 1);  // and 0.2 %
}

TEST_CASE("sampling: log-probabilities are the model's, alternatives the most likely") {
    const auto logits = random_logits(4, 64);
    double total = 0;
    for (const float x : logits) total += std::exp(static_cast<double>(x));
    SamplingParams params{.temperature = 0.5, .top_k = 3, .repetition_penalty = 2, .alternatives = 4};
    const SampledToken token = Sampler(params, 50).next(logits);
    const auto expected = [&](int32_t id) {
        return static_cast<double>(logits[static_cast<size_t>(id)]) - std::log(total);
    };
    CHECK(token.log_prob == Approx(expected(token.id)).epsilon(1e-12));
    REQUIRE(token.alternatives.size() == 4);
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (size_t i = 0; i < 4; ++i) {
        CHECK(logits[static_cast<size_t>(token.alternatives[i].id)] == sorted[i]);
        CHECK(token.alternatives[i].log_prob == Approx(expected(token.alternatives[i].id)).epsilon(1e-12));
    }
    params.alternatives = -1;
    CHECK(Sampler(params, 50).next(logits).log_prob == 0);
}

TEST_CASE("sampling: what was filtered out is never drawn, and texts of one seed differ") {
    CHECK(infer::sample(std::vector{0.0f, -INFINITY, -INFINITY}, 1, 0.99999999999999989) == 0);
    std::vector<float> logits(64, 0.0f);
    Sampler one({.seed = 3, .stream = 1}, 64), same({.seed = 3, .stream = 1}, 64), other({.seed = 3, .stream = 2}, 64);
    std::vector<int32_t> a, b, c;
    for (int i = 0; i < 20; ++i) {
        a.push_back(one.next(logits).id);
        b.push_back(same.next(logits).id);
        c.push_back(other.next(logits).id);
    }
    CHECK(a == b);
    CHECK(a != c);
}

TEST_CASE("sampling: a temperature next to 0 takes the most likely, through every filter") {
    std::vector<float> logits = random_logits(6, 64);
    logits[17] = 40;
    for (const double temperature : {1e-300, 1e-40, 1e-20})
        CHECK(Sampler({.temperature = temperature, .top_k = 9, .top_p = 0.9, .min_p = 0.1}, 50).next(logits).id == 17);
}

TEST_CASE("sampling: logits that are not finite are told, wherever they stand, and settings make none") {
    for (const float bad : {NAN, -NAN, INFINITY, -INFINITY})
        for (const size_t at : {0, 17, 63}) {
            std::vector<float> logits = random_logits(6, 64);
            CHECK(all_finite(logits));
            logits[at] = bad;
            CHECK_FALSE(all_finite(logits));
        }
    // Penalties past every number: 17 is the last to be raised, and the least to be lowered.
    std::vector<float> logits = random_logits(6, 64);
    logits[17] = 3e38f;
    for (const double temperature : {0.0, 1e-30, 1.0})
        for (const double penalty : {-1e308, 1e308}) {
            Sampler sampler({.temperature = temperature, .top_p = 0.9, .min_p = 0.1, .frequency_penalty = penalty}, 50);
            CHECK(sampler.next(logits).id == 17);
            CHECK((sampler.next(logits).id == 17) == (penalty < 0));
            for (int i = 0; i < 3; ++i) CHECK(sampler.next(logits).id < 50);
        }
}

TEST_CASE("sampling: penalties of an answer are not for the answers before it, that of repetition is") {
    const std::vector<float> logits{0, 5, 4, 3};
    for (const bool of_answer : {true, false}) {
        SamplingParams params{.temperature = 0};
        (of_answer ? params.presence_penalty : params.repetition_penalty) = 100;
        Sampler sampler(params, 4);
        CHECK(sampler.next(logits).id == 1);
        CHECK(sampler.next(logits).id == 2);
        sampler.begin_answer();
        CHECK(sampler.next(logits).id == (of_answer ? 1 : 3));
    }
}

TEST_CASE("sampling: settings that mean nothing are refused by name") {
    const auto refusal = [](SamplingParams params) { return message_of([&] { params.validate(); }); };
    CHECK_THAT(refusal({.temperature = -1}), ContainsSubstring("temperature"));
    CHECK_THAT(refusal({.temperature = NAN}), ContainsSubstring("temperature"));
    CHECK_THAT(refusal({.top_k = -1}), ContainsSubstring("top_k"));
    CHECK_THAT(refusal({.top_p = 0}), ContainsSubstring("top_p"));
    CHECK_THAT(refusal({.min_p = 1.5}), ContainsSubstring("min_p"));
    CHECK_THAT(refusal({.repetition_penalty = 0}), ContainsSubstring("repetition_penalty"));
    CHECK_THAT(refusal({.presence_penalty = INFINITY}), ContainsSubstring("presence_penalty"));
}

TEST_CASE("stop strings: held back wherever the text is cut, and never shown") {
    const std::string text = "one aab aaab <|im end\u00e9\u00e9> \u00e9nd";
    for (const std::vector<std::string>& stops : {std::vector<std::string>{"aaab"},
                                                  {"aab", "ab aaa"},
                                                  {"\u00e9>"},
                                                  {"\u00e9\u00e9>", "d\u00e9\u00e9>"},
                                                  {"nowhere"},
                                                  {},
                                                  {"b", "aab"}}) {
        // Letter by letter: the first end of a stop string, from the earliest of its beginnings.
        std::string expected = text;
        bool found = false;
        for (size_t end = 1; end <= text.size() && !found; ++end)
            for (size_t begin = 0; begin < end && !found; ++begin)
                if (std::find(stops.begin(), stops.end(), text.substr(begin, end - begin)) != stops.end())
                    found = true, expected = text.substr(0, begin);
        for (size_t piece = 1; piece <= text.size(); ++piece) {
            StopStrings stop(stops);
            std::string shown;
            for (size_t at = 0; at < text.size() && !stop.stopped(); at += piece) {
                shown += stop.push(std::string_view(text).substr(at, piece));
                CHECK(text.starts_with(shown));
            }
            CHECK(stop.stopped() == found);
            CHECK(shown + stop.finish() == expected);
        }
    }
    StopStrings stop({"abc"});
    CHECK(stop.push("xab") == "x");
    CHECK(stop.push("d") == "abd");
    CHECK(stop.push("ab").empty());
    CHECK(stop.finish() == "ab");
    CHECK_THROWS_AS(StopStrings({"a", ""}), UserError);
    for (const char* half : {"\xa9", "a\xc3", "\xc3("})
        CHECK_THAT(message_of([&] { StopStrings(std::vector<std::string>{half}); }), ContainsSubstring("not UTF-8"));
}

#include "data/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>

#include "data/mt19937.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/offsets_of.h"
#include "tests/data/stores.h"

namespace ballast::data {
namespace {

using test::counting_documents, test::make_store, test::random_lengths, test::write_store;

/// GPT-NeoX's order as its Python and C++ write it down: all three index arrays, the window walked token by token.
class NeoxOrder {
  public:
    NeoxOrder(const std::vector<int64_t>& lengths, int64_t seq_length, uint32_t seed, int64_t num_samples)
        : lengths_(lengths) {
        const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
        for (epochs_ = 1; (epochs_ * tokens - 1) / seq_length < num_samples;) ++epochs_;
        NumpyRandomState random(seed);
        for (int64_t e = 0; e < epochs_; ++e)
            for (size_t d = 0; d < lengths.size(); ++d) documents_.push_back(static_cast<int32_t>(d));
        random.shuffle(std::span(documents_));
        walk(seq_length, (epochs_ * tokens - 1) / seq_length);
        shuffle_.resize(starts_.size() - 1);
        std::iota(shuffle_.begin(), shuffle_.end(), 0u);
        random.shuffle(std::span(shuffle_));
    }

    int64_t size() const { return static_cast<int64_t>(shuffle_.size()); }
    int64_t epochs() const { return epochs_; }

    std::vector<int32_t> sample(int64_t index) const {
        const auto [first, first_offset] = starts_[shuffle_[static_cast<size_t>(index)]];
        const auto [last, last_offset] = starts_[shuffle_[static_cast<size_t>(index)] + 1];
        std::vector<int32_t> out;
        for (size_t visit = first; visit <= last; ++visit) {
            const auto document = static_cast<size_t>(documents_[visit]);
            const int64_t begin = visit == first ? first_offset : 0;
            const int64_t end = visit == last ? last_offset + 1 : lengths_[document];
            const int64_t base =
                std::accumulate(lengths_.begin(), lengths_.begin() + static_cast<std::ptrdiff_t>(document), int64_t{0});
            for (int64_t i = begin; i < end; ++i) out.push_back(static_cast<int32_t>((base + i) % 60000));
        }
        return out;
    }

  private:
    void walk(int64_t seq_length, int64_t num_windows) {
        size_t visit = 0;
        int64_t offset = 0;
        starts_.emplace_back(visit, offset);
        for (int64_t w = 0; w < num_windows; ++w) {
            int64_t remaining = seq_length + 1;
            while (remaining != 0) {
                const int64_t length = lengths_[static_cast<size_t>(documents_[visit])] - offset;
                remaining -= length;
                if (remaining <= 0) {
                    offset += remaining + length - 1;
                    remaining = 0;
                } else {
                    ++visit;
                    offset = 0;
                }
            }
            starts_.emplace_back(visit, offset);
        }
    }

    std::vector<int64_t> lengths_;
    int64_t epochs_ = 0;
    std::vector<int32_t> documents_;
    std::vector<std::pair<size_t, int64_t>> starts_;
    std::vector<uint32_t> shuffle_;
};

}  // namespace

// numpy 2.4.6: r = np.random.RandomState(1234); a = np.arange(1000, dtype=T); r.shuffle(a); b = np.arange(10);
// r.shuffle(b); sum = (a * np.arange(1, 1001)).sum(). The same for T = int32, uint32 and int64.
TEMPLATE_TEST_CASE("mt19937: numpy's shuffle", "", int32_t, uint32_t, int64_t) {
    NumpyRandomState random(1234);
    std::vector<TestType> a(1000), b(10);
    std::iota(a.begin(), a.end(), TestType{0});
    std::iota(b.begin(), b.end(), TestType{0});
    random.shuffle(std::span(a));
    random.shuffle(std::span(b));
    int64_t sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += static_cast<int64_t>(a[i]) * static_cast<int64_t>(i + 1);
    CHECK(std::vector<TestType>(a.begin(), a.begin() + 8) ==
          std::vector<TestType>{681, 990, 155, 768, 438, 363, 688, 555});
    CHECK(std::vector<TestType>(a.end() - 4, a.end()) == std::vector<TestType>{53, 294, 723, 815});
    CHECK(sum == 251897522);
    CHECK(b == std::vector<TestType>{0, 8, 1, 7, 4, 9, 6, 5, 3, 2});
}

TEST_CASE("mt19937: numpy's shuffle of 100,003") {
    NumpyRandomState random(1234);
    std::vector<int32_t> a(100003);
    std::iota(a.begin(), a.end(), 0);
    random.shuffle(std::span(a));
    int64_t sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += int64_t{a[i]} * static_cast<int64_t>(i + 1);
    CHECK(a[0] == 84826);
    CHECK(sum == 249888847570818);
}

TEST_CASE("mt19937: wide intervals draw the high half first") {
    NumpyRandomState random(7), words(7);
    const uint64_t max = (uint64_t{1} << 40) - 1;  // the mask itself, so the first draw is taken
    const uint64_t value = random.interval(max);
    const uint64_t high = words.next_u32(), low = words.next_u32();
    CHECK(value == ((high << 32 | low) & max));
    CHECK(random.interval(0) == 0);  // draws nothing
    CHECK(random.next_u32() == words.next_u32());
}

TEST_CASE("sampler: the order of GPT-NeoX") {
    struct Case {
        size_t documents;
        uint32_t longest;
        int64_t seq_length, steps, batch;
        uint32_t seed;
    };
    // One epoch, several, more windows than documents and fewer, documents longer than a window, one document.
    constexpr Case kCases[] = {{700, 40, 16, 20, 8, 1234}, {50, 30, 7, 100, 5, 1},  {3, 5000, 64, 3, 1, 99},
                               {1, 300, 33, 11, 3, 5},     {2000, 3, 63, 2, 4, 42}, {600, 20, 1, 10, 10, 1234}};
    for (const Case& c : kCases) {
        const test::TemporaryFolder folder;
        const auto lengths = random_lengths(c.seed, c.documents, c.longest);
        const TokenStore store(make_store(folder, lengths));
        const Sampler sampler(store, test::neox_order(store, c.seq_length, c.seed, c.steps * c.batch));
        const auto wanted = static_cast<int64_t>(std::ceil(static_cast<double>(c.steps * c.batch) * 1.005));
        const NeoxOrder order(lengths, c.seq_length, c.seed, wanted);
        INFO(c.documents << " documents, window " << c.seq_length);
        REQUIRE(sampler.size() == order.size());
        REQUIRE(sampler.order().num_epochs == order.epochs());
        REQUIRE(Sampler::size(store, sampler.order()) == order.size());
        REQUIRE(sampler.size() >= c.steps * c.batch);
        std::vector<int32_t> out(static_cast<size_t>(c.seq_length) + 3, -7);
        for (int64_t i = 0; i < std::min<int64_t>(sampler.size(), 400); ++i) {
            sampler.sample(i, out.data() + 1);
            REQUIRE(std::vector<int32_t>(out.begin() + 1, out.end() - 1) == order.sample(i));
            REQUIRE((out.front() == -7 && out.back() == -7));
        }
    }
}

// numpy 2.4.6 with the formulas of gpt2_dataset.py: documents of lengths 3, 5, 8, 2, 6 (tokens 0 to 23), window 4,
// 2 steps of 2 samples, seed 1234: ns = 5 in one epoch.
TEST_CASE("sampler: a worked example from numpy") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, {3, 5, 8, 2, 6}));
    const Sampler sampler(store, test::neox_order(store, 4, 1234, 2 * 2));
    REQUIRE(sampler.size() == 5);
    const std::vector<std::vector<int32_t>> expected = {
        {6, 7, 8, 9, 10}, {2, 3, 4, 5, 6}, {22, 23, 0, 1, 2}, {18, 19, 20, 21, 22}, {10, 11, 12, 13, 14}};
    for (int64_t i = 0; i < 5; ++i) {
        std::vector<int32_t> out(5);
        sampler.sample(i, out.data());
        CHECK(out == expected[static_cast<size_t>(i)]);
    }
}

TEST_CASE("sampler: a text one token short takes another epoch") {
    // 2 steps of 2 samples want ceil(4.02) = 5 windows: 5 · 4 tokens and one more for the last target.
    const test::TemporaryFolder short_folder, folder;
    const TokenStore too_short(make_store(short_folder, {13, 7})), enough(make_store(folder, {13, 8}));
    CHECK(test::neox_order(too_short, 4, 1234, 4).num_epochs == 2);
    CHECK(test::neox_order(enough, 4, 1234, 4).num_epochs == 1);
}

TEST_CASE("sampler: its memory is what was said before") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, random_lengths(3, 1000, 50)));
    const SampleOrder order = test::neox_order(store, 10, 1234, 20000);
    // 4 bytes a visit, 8 bytes every 256th, 4 bytes a sample.
    const int64_t visits = order.num_epochs * 1000, samples = (order.num_epochs * store.num_tokens() - 1) / 10;
    REQUIRE(order.num_epochs > 1);
    CHECK(Sampler::bytes(store, order) == static_cast<size_t>(4 * visits + 8 * ((visits + 255) / 256) + 4 * samples));
}

TEST_CASE("sampler: numbers past any run are refused before anything is taken") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, {5000}));
    CHECK(count_samples(143000, 1024, 2048) == 146432000);
    CHECK(count_samples(0, 4, 32) == 0);
    const int64_t most = int64_t{1} << 40;
    for (const auto& [steps, batch, length] : {std::array{int64_t{1000000000000000}, int64_t{1} << 20, int64_t{32}},
                                               {most, most, most},
                                               {most, most, int64_t{1}}}) {
        const std::string message = test::message_of([&] { count_samples(steps, batch, length); });
        CHECK_THAT(message, Catch::Matchers::ContainsSubstring("more than the 1e18 that can be counted"));
    }
    const SampleOrder order = test::neox_order(store, 2, 1, 5000000000000);  // countable, but it takes 40 TB
    const std::string message = test::message_of([&] { Sampler(store, order); });
    CHECK_THAT(message, Catch::Matchers::ContainsSubstring("samples takes"));
    CHECK_THAT(message, Catch::Matchers::ContainsSubstring("use fewer steps"));
}

TEST_CASE("sampler: windows in the order of the text") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, {30, 1, 70}));
    const SequentialSampler sampler(store, 10);
    REQUIRE(sampler.size() == 10);
    std::vector<int32_t> out(11);
    for (int64_t i = 0; i < sampler.size(); ++i) {
        sampler.sample(i, out.data());
        for (int32_t j = 0; j < 11; ++j) REQUIRE(out[static_cast<size_t>(j)] == i * 10 + j);
    }
    CHECK(SequentialSampler(store, 100).size() == 1);
    CHECK(test::message_of([&] { SequentialSampler(store, 101); }).find("101 tokens") != std::string::npos);
}

TEST_CASE("sampler: where each token's document begins") {
    const test::TemporaryFolder folder;
    const std::vector<int64_t> lengths = random_lengths(5, 300, 40);
    const TokenStore store(make_store(folder, lengths));
    const auto offsets = test::offsets_of(store);
    constexpr int64_t kLength = 31;
    std::vector<int32_t> window(kLength + 1), starts(kLength + 1), expected(kLength + 1);
    const auto check = [&](const auto& sampler, int64_t samples) {
        for (int64_t s = 0; s < samples; ++s) {
            sampler.sample(s, window.data(), starts.data());
            expected[0] = 0;
            for (size_t i = 1; i < window.size(); ++i) {  // a token's id is its place in the store
                const bool begins = std::find(offsets.begin(), offsets.end(), window[i]) != offsets.end();
                expected[i] = begins ? static_cast<int32_t>(i) : expected[i - 1];
            }
            INFO(s);
            CHECK(starts == expected);
        }
    };
    const Sampler shuffled(store, test::neox_order(store, kLength, 1, 100));
    check(shuffled, shuffled.size());
    const SequentialSampler sequential(store, kLength);
    check(sequential, sequential.size());
}

TEST_CASE("sampler: a token before every document gives the samples of documents that begin with it") {
    const test::TemporaryFolder folder;
    constexpr uint16_t kBegin = 60001;
    const std::vector<int64_t> lengths = random_lengths(9, 400, 30);  // some are empty
    auto documents = counting_documents(lengths);
    const TokenStore plain(write_store(folder.file("plain.h5"), {"hash", 60002, -1, "", kBegin}, documents));
    for (auto& document : documents) document.insert(document.begin(), kBegin);
    const TokenStore written(write_store(folder.file("written.h5"), {"hash", 60002, -1, "", kBegin}, documents));

    constexpr int64_t kLength = 17;
    std::vector<int32_t> window(kLength + 1), starts(kLength + 1), expected(kLength + 1), expected_starts(kLength + 1);
    const auto check = [&](const auto& sampler, const auto& oracle) {
        REQUIRE(sampler.size() == oracle.size());
        for (int64_t s = 0; s < sampler.size(); ++s) {
            INFO(s);
            sampler.sample(s, window.data(), starts.data());
            oracle.sample(s, expected.data(), expected_starts.data());
            REQUIRE(window == expected);
            REQUIRE(starts == expected_starts);
        }
    };
    const SampleOrder order = test::neox_order(plain, kLength, 3, 700, FirstToken::every_document);
    CHECK(order.num_epochs == test::neox_order(written, kLength, 3, 700).num_epochs);
    check(Sampler(plain, order), Sampler(written, test::neox_order(written, kLength, 3, 700)));
    check(SequentialSampler(plain, kLength, FirstToken::every_document), SequentialSampler(written, kLength));
}

TEST_CASE("sampler: a token at the beginning of every window replaces the text's, and nothing else changes") {
    const test::TemporaryFolder folder;
    const TokenStore store(
        write_store(folder.file("tokens.h5"), {"hash", 60002, 60001, "", 60001}, counting_documents({300, 1, 700})));
    std::vector<int32_t> window(8), expected(8);
    const auto check = [&](const auto& sampler, const auto& oracle) {
        REQUIRE(sampler.size() == oracle.size());
        for (int64_t s = 0; s < sampler.size(); ++s) {
            sampler.sample(s, window.data());
            oracle.sample(s, expected.data());
            expected[0] = 60001;
            REQUIRE(window == expected);
        }
    };
    check(Sampler(store, test::neox_order(store, 7, 3, 100, FirstToken::every_window)),
          Sampler(store, test::neox_order(store, 7, 3, 100)));
    check(SequentialSampler(store, 7, FirstToken::every_window), SequentialSampler(store, 7));
}

TEST_CASE("sampler: a first token that the store has not, or has already, is refused") {
    const test::TemporaryFolder folder;
    const TokenStore without(make_store(folder, {30}));
    const TokenStore ended(
        write_store(folder.file("ended.h5"), {"hash", 60002, 60001, "", 60001}, counting_documents({30})));
    CHECK_THAT(test::message_of([&] { test::neox_order(without, 4, 1, 2, FirstToken::every_window); }),
               Catch::Matchers::ContainsSubstring("knows no token that texts begin with"));
    CHECK_THAT(test::message_of([&] { SequentialSampler(without, 4, FirstToken::every_document); }),
               Catch::Matchers::ContainsSubstring("knows no token that texts begin with"));
    CHECK_THAT(test::message_of([&] { test::neox_order(ended, 4, 1, 2, FirstToken::every_document); }),
               Catch::Matchers::ContainsSubstring("has token 60001 after each document"));
}

TEST_CASE("sampler: too little text") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, std::vector<int64_t>(1000, 1)));
    CHECK(test::message_of([&] { test::neox_order(store, 2048, 1, 146432000); }).find("is too small") !=
          std::string::npos);
}

}  // namespace ballast::data

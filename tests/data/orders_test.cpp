// Orders of samples that GPT-NeoX v1.0 does not make: stable, Megatron-Core's, and what is read from .npy files.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/atomic_file.h"
#include "data/index_triplet.h"
#include "data/keyed_permutation.h"
#include "data/sampler.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/data/index_files.h"
#include "tests/data/stores.h"

namespace ballast::data {
namespace {

using Catch::Matchers::ContainsSubstring;
using test::make_store, test::message_of, test::npy_bytes, test::random_lengths, test::Triplet;
using Window = std::vector<int32_t>;

Window sample_of(const Sampler& sampler, int64_t index) {
    Window out(static_cast<size_t>(sampler.order().seq_length) + 1);
    sampler.sample(index, out.data());
    return out;
}

std::vector<Window> samples_of(const Sampler& sampler, int64_t count) {
    std::vector<Window> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(sample_of(sampler, i));
    return out;
}

}  // namespace

TEST_CASE("keyed permutation: every size is permuted") {
    for (const int64_t size : {1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 1000, 1024, 1025, 4097}) {
        const KeyedPermutation permutation(7, "name", size);
        std::vector<int> seen(static_cast<size_t>(size));
        for (int64_t i = 0; i < size; ++i) ++seen.at(static_cast<size_t>(permutation(i)));
        INFO(size);
        CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
    }
    const int64_t most = int64_t{1} << 60;
    const KeyedPermutation largest(1, "name", most);
    for (const int64_t i : {int64_t{0}, int64_t{1}, most / 2, most - 1}) CHECK((largest(i) >= 0 && largest(i) < most));
    const KeyedPermutation odd(7, "name", 21);  // 5 bits: halves of different lengths; recorded, as runs depend on it
    std::vector<int64_t> places;
    for (int64_t i = 0; i < 21; ++i) places.push_back(odd(i));
    CHECK(places == std::vector<int64_t>{7, 20, 16, 6, 19, 0, 2, 5, 1, 9, 12, 4, 13, 11, 8, 10, 17, 18, 14, 3, 15});
    CHECK_THROWS_AS(KeyedPermutation(1, "name", 10)(10), InternalError);
    CHECK_THROWS_AS(KeyedPermutation(1, "name", 0), InternalError);
}

// 12000 keys, chi-square of each element's place; 5 sigma of its distribution, and the pairs of two neighbours too.
TEST_CASE("keyed permutation: over the keys each element comes to each place as often") {
    for (const int64_t size : {2, 5, 6, 13}) {
        constexpr int kKeys = 12000;
        std::vector<double> places(static_cast<size_t>(size * size)), pairs(places.size());
        for (int key = 0; key < kKeys; ++key) {
            const KeyedPermutation permutation(static_cast<uint64_t>(key), "epoch", size);
            for (int64_t i = 0; i < size; ++i) ++places[static_cast<size_t>(i * size + permutation(i))];
            ++pairs[static_cast<size_t>(permutation(0) * size + permutation(1))];
        }
        const auto chi_square = [](const std::vector<double>& counts, double expected) {
            double sum = 0;
            for (const double n : counts) sum += n == 0 ? 0 : (n - expected) * (n - expected) / expected;
            return sum;
        };
        const auto bound = [](double freedom) { return freedom + 5 * std::sqrt(2 * freedom); };
        const auto n = static_cast<double>(size);
        INFO(size);
        CHECK(chi_square(places, kKeys / n) <= bound((n - 1) * (n - 1)));
        CHECK(chi_square(pairs, kKeys / (n * (n - 1))) <= bound(n * (n - 1) - 1));  // (i, i) never comes
    }
}

// What runs have read must not change with a version: recorded when the order was made.
TEST_CASE("stable order: its samples are these") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, {3, 5, 0, 8, 2, 6, 17}));
    const SampleOrder order =
        make_sample_order(store, {.kind = OrderKind::stable, .seq_length = 4, .seed = 1234, .samples = 1});
    const Sampler sampler(store, order);
    std::vector<int32_t> first_tokens;
    for (int64_t i = 0; i < 20; ++i) first_tokens.push_back(sample_of(sampler, i)[0]);
    CHECK(first_tokens ==
          std::vector<int32_t>{36, 4, 8, 20, 12, 28, 32, 16, 0, 24, 8, 32, 24, 20, 16, 28, 12, 36, 0, 4});
}

TEST_CASE("stable order: each epoch has every window of the text once, each in an order of its own") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, random_lengths(4, 300, 40)));
    const SequentialSampler text(store, 31);
    const auto make = [&](uint32_t seed, int64_t samples) {
        return make_sample_order(store,
                                 {.kind = OrderKind::stable, .seq_length = 31, .seed = seed, .samples = samples});
    };
    const Sampler sampler(store, make(5, 10));
    CHECK(make(5, 1000000) == sampler.order());  // the number of samples has no say
    CHECK(Sampler::bytes(store, sampler.order()) == 0);
    CHECK(sampler.size() > int64_t{1} << 59);
    std::vector<Window> expected;
    for (int64_t w = 0; w < text.size(); ++w) {
        expected.emplace_back(32);
        text.sample(w, expected.back().data());
    }
    const auto epoch = [&](const Sampler& from, int64_t e) {
        std::vector<Window> out;
        for (int64_t i = 0; i < text.size(); ++i) out.push_back(sample_of(from, e * text.size() + i));
        return out;
    };
    auto first = epoch(sampler, 0), second = epoch(sampler, 1), far = epoch(sampler, 1000000007);
    CHECK(first != expected);
    CHECK(first != second);
    CHECK(first != far);
    CHECK(first != epoch(Sampler(store, make(6, 10)), 0));
    std::sort(expected.begin(), expected.end());
    for (auto* one : {&first, &second, &far}) {
        std::sort(one->begin(), one->end());
        CHECK(*one == expected);
    }
    const TokenStore tiny(make_store(folder, {31}));
    CHECK_THAT(
        message_of([&] { make_sample_order(tiny, {.kind = OrderKind::stable, .seq_length = 31, .samples = 1}); }),
        ContainsSubstring("not one window of 31 + 1"));
}

TEST_CASE("stable order: where documents begin, and tokens before them, are as in the text") {
    const test::TemporaryFolder folder;
    const TokenStore store(test::write_store(folder.file("b.h5"), {"hash", 60002, -1, "", 60001},
                                             test::counting_documents(random_lengths(8, 200, 20))));
    const SequentialSampler text(store, 9, FirstToken::every_document);
    const Sampler sampler(store, make_sample_order(store, {.kind = OrderKind::stable,
                                                           .seq_length = 9,
                                                           .samples = 1,
                                                           .first_token = FirstToken::every_document}));
    std::vector<std::pair<Window, Window>> of_text, of_order;
    for (int64_t i = 0; i < text.size(); ++i) {
        Window tokens(10), starts(10);
        text.sample(i, tokens.data(), starts.data());
        of_text.emplace_back(tokens, starts);
        sampler.sample(i, tokens.data(), starts.data());
        of_order.emplace_back(tokens, starts);
    }
    std::sort(of_text.begin(), of_text.end());
    std::sort(of_order.begin(), of_order.end());
    CHECK(of_order == of_text);
}

// numpy 2.4.6 with the rules of Megatron-LM's megatron/core/datasets/gpt_dataset.py and helpers.cpp: documents of
// lengths 3, 5, 8, 2, 6 (tokens 0 to 23), window 4, seed 1234.
TEST_CASE("mcore order: worked examples from numpy") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, {3, 5, 8, 2, 6}));
    const auto make = [&](int64_t samples) {
        return make_sample_order(store, {.kind = OrderKind::mcore, .seq_length = 4, .seed = 1234, .samples = samples});
    };
    const std::vector<Window> apart = {{2, 3, 4, 5, 6},    {18, 19, 20, 21, 22}, {10, 11, 12, 13, 14},
                                       {6, 7, 8, 9, 10},   {22, 23, 0, 1, 2},    {16, 17, 8, 9, 10},
                                       {1, 2, 18, 19, 20}, {10, 11, 12, 13, 14}, {14, 15, 16, 17, 16},
                                       {5, 6, 7, 0, 1},    {14, 15, 3, 4, 5}};
    const std::vector<Window> together = {{12, 13, 14, 15, 18}, {2, 3, 4, 5, 6},    {8, 9, 10, 11, 12},
                                          {12, 13, 14, 15, 8},  {1, 2, 16, 17, 18}, {22, 23, 3, 4, 5},
                                          {18, 19, 20, 21, 22}, {8, 9, 10, 11, 12}, {18, 19, 20, 21, 22},
                                          {5, 6, 7, 0, 1},      {22, 23, 0, 1, 2}};
    const std::vector<Window> three = {
        {12, 13, 14, 15, 18}, {22, 23, 0, 1, 2},    {8, 9, 10, 11, 12}, {12, 13, 14, 15, 8},  {1, 2, 16, 17, 18},
        {22, 23, 3, 4, 5},    {18, 19, 20, 21, 22}, {8, 9, 10, 11, 12}, {18, 19, 20, 21, 22}, {5, 6, 7, 0, 1},
        {2, 3, 4, 5, 6},      {13, 14, 15, 3, 4},   {0, 1, 2, 18, 19},  {9, 10, 11, 12, 13},  {23, 16, 17, 8, 9},
        {6, 7, 16, 17, 0},    {19, 20, 21, 22, 23}};
    CHECK(make(5).num_epochs == 1);
    CHECK(samples_of(Sampler(store, make(5)), 5) == samples_of(Sampler(store, test::neox_order(store, 4, 1234, 4)), 5));
    for (const auto& [samples, expected, is_apart] : {std::tuple{7, apart, true},
                                                      {8, apart, true},
                                                      {9, together, false},
                                                      {10, together, false},
                                                      {13, three, true}}) {
        INFO(samples);
        const Sampler sampler(store, make(samples));
        CHECK(sampler.order().last_epoch_apart == is_apart);
        REQUIRE(sampler.size() == std::ssize(expected));
        CHECK(samples_of(sampler, sampler.size()) == expected);
    }
}

TEST_CASE("npy order: the bytes that numpy saves, and the samples of the neox order") {
    const test::TemporaryFolder folder;
    const std::vector<int64_t> small{3, 5, 8, 2, 6};
    const Triplet worked(small, 1, 4, 1234);
    // numpy 2.4.6, GPT-NeoX's arrays of the worked example in sampler_test.cpp.
    CHECK(worked.documents == std::vector<int32_t>{4, 0, 1, 2, 3});
    CHECK(worked.windows == std::vector<int32_t>{0, 0, 0, 4, 1, 2, 2, 3, 3, 2, 3, 6});
    CHECK(worked.samples == std::vector<uint32_t>{3, 2, 1, 0, 4});
    const std::string padding(58, ' ');
    CHECK(worked.window_bytes().substr(0, 128) == std::string("\x93NUMPY\x01\x00v\x00", 10) +
                                                      "{'descr': '<i4', 'fortran_order': False, 'shape': (6, 2), }" +
                                                      padding + "\n");
    CHECK(worked.window_bytes().size() == 176);

    struct Case {
        size_t documents;
        uint32_t longest;
        int64_t seq_length, samples;
        uint32_t seed;
    };
    for (const Case& c :
         {Case{700, 40, 16, 160, 1234}, {50, 30, 7, 500, 1}, {3, 5000, 64, 3, 99}, {1, 300, 33, 33, 5}}) {
        const auto lengths = random_lengths(c.seed, c.documents, c.longest);
        const TokenStore store(make_store(folder, lengths));
        const Sampler neox(store, test::neox_order(store, c.seq_length, c.seed, c.samples));
        Triplet(lengths, neox.order().num_epochs, c.seq_length, c.seed).write(folder.file("pile"));
        INFO(c.documents);
        for (const std::string name : {"pile", "pile_sample_idx.npy"}) {
            const SampleOrder order = make_sample_order(store, {.kind = OrderKind::npy,
                                                                .seq_length = c.seq_length,
                                                                .samples = neox.size(),
                                                                .index = folder.file(name)});
            CHECK(Sampler::bytes(store, order) == 0);
            const Sampler sampler(store, order);
            REQUIRE(sampler.size() == neox.size());
            CHECK(samples_of(sampler, sampler.size()) == samples_of(neox, neox.size()));
            Window starts(static_cast<size_t>(c.seq_length) + 1), expected = starts, tokens = starts;
            sampler.sample(1, tokens.data(), starts.data());
            neox.sample(1, tokens.data(), expected.data());
            CHECK(starts == expected);
        }
    }
}

TEST_CASE("npy order: Megatron-Core's names, 64 bits, a part of the documents") {
    const test::TemporaryFolder folder;
    const TokenStore store(make_store(folder, {3, 5, 8, 2, 6, 100}));
    const Triplet triplet({3, 5, 8, 2, 6}, 1, 4, 1234);  // the last document is another split's
    const std::vector<int64_t> windows(triplet.windows.begin(), triplet.windows.end());
    write_file(folder.file("mc-document_index.npy"), triplet.document_bytes());
    write_file(folder.file("mc-sample_index.npy"), npy_bytes("<i8", "(6, 2)", windows));
    write_file(folder.file("mc-shuffle_index.npy"),
               npy_bytes("<i8", "(5,)", std::vector<int64_t>(triplet.samples.begin(), triplet.samples.end())));
    const Sampler sampler(
        store,
        make_sample_order(store, {.kind = OrderKind::npy, .seq_length = 4, .samples = 5, .index = folder.file("mc")}));
    CHECK(samples_of(sampler, 5) ==
          std::vector<Window>{
              {6, 7, 8, 9, 10}, {2, 3, 4, 5, 6}, {22, 23, 0, 1, 2}, {18, 19, 20, 21, 22}, {10, 11, 12, 13, 14}});
}

TEST_CASE("npy order: every lie is named") {
    const test::TemporaryFolder folder;
    const std::vector<int64_t> lengths{3, 5, 8, 2, 6};
    const TokenStore store(make_store(folder, lengths));
    const Triplet good(lengths, 1, 4, 1234);
    const std::string name = folder.file("t");
    const auto open = [&](int64_t seq_length = 4, int64_t samples = 5) {
        return message_of([&] {
            const Sampler sampler(
                store,
                make_sample_order(
                    store, {.kind = OrderKind::npy, .seq_length = seq_length, .samples = samples, .index = name}));
            samples_of(sampler, sampler.size());
        });
    };
    const auto with = [&](const char* ending, const std::string& bytes) {
        good.write(name);
        write_file(name + ending, bytes);
        const std::string message = open();
        if (message.find(ending) == std::string::npos) return "another file is named: " + message;
        return message;
    };
    const auto changed = [](std::string bytes, const std::string& from, const std::string& to) {
        REQUIRE(bytes.find(from) != std::string::npos);
        return bytes.replace(bytes.find(from), from.size(), to);
    };
    good.write(name);
    CHECK(open() == "");
    CHECK_THAT(open(5), ContainsSubstring("another corpus or train.sequence_length"));
    CHECK_THAT(open(4, 6), ContainsSubstring("holds 5 samples"));
    constexpr const char *kDocuments = "_doc_idx.npy", *kWindows = "_sample_idx.npy", *kSamples = "_shuffle_idx.npy";
    const std::string windows = good.window_bytes(), samples = good.sample_bytes(), documents = good.document_bytes();

    CHECK_THAT(with(kWindows, changed(windows, "False", "True ")), ContainsSubstring("Fortran's order"));
    CHECK_THAT(with(kWindows, changed(windows, "<i4", "<f4")), ContainsSubstring("its elements are <f4"));
    CHECK_THAT(with(kWindows, changed(windows, "<i4", ">i4")), ContainsSubstring("its elements are >i4"));
    CHECK_THAT(with(kWindows, changed(windows, "(6, 2)", "(2, 6)")), ContainsSubstring("its shape is (2, 6)"));
    CHECK_THAT(with(kWindows, changed(windows, "(6, 2)", "(9, 2)")), ContainsSubstring("cut short"));
    CHECK_THAT(with(kWindows, changed(windows, "(6, 2)", "(5, 2)")), ContainsSubstring("holds more bytes"));
    CHECK_THAT(with(kWindows, changed(windows, "'shape'", "'shame'")), ContainsSubstring("a key shame"));
    CHECK_THAT(with(kWindows, changed(windows, "NUMPY", "NUMPI")), ContainsSubstring("not a .npy file"));
    CHECK_THAT(with(kWindows, changed(windows, "(6, 2)", "(-6,2")), ContainsSubstring("its shape is none"));
    CHECK_THAT(with(kSamples, changed(changed(samples, "(5,)", "(4,)"), "\x04", "").substr(0, 144)),
               ContainsSubstring("its shape is (4), where (5) was expected"));

    const auto with_elements = [&](const char* ending, auto elements, size_t at, auto value) {
        elements[at] = value;
        return with(ending, ending == kWindows   ? npy_bytes("<i4", "(6, 2)", elements)
                            : ending == kSamples ? npy_bytes("<u4", "(5,)", elements)
                                                 : npy_bytes("<i4", "(5,)", elements));
    };
    CHECK_THAT(with_elements(kDocuments, good.documents, 2, 5), ContainsSubstring("element 2 is 5"));
    CHECK_THAT(with_elements(kDocuments, good.documents, 2, -1), ContainsSubstring("element 2 is -1"));
    CHECK_THAT(with_elements(kSamples, good.samples, 1, 5u), ContainsSubstring("element 1 is 5"));
    CHECK_THAT(with_elements(kSamples, good.samples, 1, 0u), ContainsSubstring("as an earlier one"));
    CHECK_THAT(with_elements(kWindows, good.windows, 4, 4), ContainsSubstring("element 6 is 2"));  // the next descends
    CHECK_THAT(with_elements(kWindows, good.windows, 10, 5), ContainsSubstring("element 10 is 5"));
    CHECK_THAT(with_elements(kWindows, good.windows, 3, -1), ContainsSubstring("before the document"));
    CHECK_THAT(with_elements(kWindows, good.windows, 5, 1), ContainsSubstring("window 1 goes"));
    good.write(name);
    Triplet other = good;  // a document of the wrong length in another's place: only measuring finds it
    other.documents[1] = 3;
    other.documents[4] = 0;
    other.write(name);
    CHECK_THAT(open(), ContainsSubstring("are not the 4 + 1 tokens of a sample"));

    for (const auto& [ending, bytes] : {std::pair{kDocuments, documents}, {kWindows, windows}, {kSamples, samples}}) {
        for (size_t cut = 0; cut < bytes.size(); cut += 3) CHECK(with(ending, bytes.substr(0, cut)) != "");
        for (size_t at = 0; at < bytes.size(); ++at) {  // noticed, or without effect
            std::string flipped = bytes;
            flipped[at] = static_cast<char>(flipped[at] ^ 1 << at % 8);
            with(ending, flipped);
        }
        good.write(name);
        std::filesystem::remove(name + ending);
        CHECK_THAT(open(), ContainsSubstring(ending));
    }
}

TEST_CASE("npy files: what is written are numpy's bytes") {
    const test::TemporaryFolder folder;
    const uint16_t words[] = {1, 2, 3, 60000, 5, 6};
    const int32_t numbers[] = {1, -2};
    write_npy(folder.file("a.npy"), Dtype::u16, {2, 3}, words);
    write_npy(folder.file("b.npy"), Dtype::i32, {2}, numbers);
    CHECK(read_file(folder.file("a.npy")) == npy_bytes("<u2", "(2, 3)", std::vector<uint16_t>(words, words + 6)));
    CHECK(read_file(folder.file("b.npy")) == npy_bytes("<i4", "(2,)", std::vector<int32_t>{1, -2}));
    const NpyFile read(folder.file("b.npy"));
    CHECK((read.numel() == 2 && read[0] == 1 && read[1] == -2));
}

}  // namespace ballast::data

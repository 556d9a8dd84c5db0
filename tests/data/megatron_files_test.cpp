// Megatron's and GPT-NeoX's token files: written, read whole and in slices, damaged.
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <random>

#include "base/atomic_file.h"
#include "base/thread_pool.h"
#include "data/prepare.h"
#include "data/sampler.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"
#include "tests/data/offsets_of.h"
#include "tests/data/stores.h"

namespace ballast::data {
namespace {

namespace fs = std::filesystem;
using test::all_tokens;
using Catch::Matchers::ContainsSubstring;

/// The bytes that GPT-NeoX's MMapIndexedDatasetBuilder writes, value by value.
template <class Token>
void write_set(const std::string& name, int code, const std::vector<std::vector<int>>& documents) {
    std::string index("MMIDIDX\0\0", 9), tokens;
    const auto add = [](std::string& to, auto value) {
        to.append(reinterpret_cast<const char*>(&value), sizeof value);
    };
    add(index, uint64_t{1});
    add(index, static_cast<uint8_t>(code));
    add(index, uint64_t{documents.size()});
    add(index, uint64_t{documents.size() + 1});
    for (const auto& document : documents) add(index, static_cast<int32_t>(document.size()));
    for (const auto& document : documents) {
        add(index, static_cast<int64_t>(tokens.size()));
        for (int id : document) add(tokens, static_cast<Token>(id));
    }
    for (size_t d = 0; d <= documents.size(); ++d) add(index, static_cast<int64_t>(d));
    write_file(name + ".idx", index);
    write_file(name + ".bin", tokens);
}

std::vector<std::vector<int>> some_documents(int largest) {
    std::mt19937 random(3);
    std::vector<std::vector<int>> documents(40);
    for (auto& document : documents)
        for (size_t n = random() % 9; document.size() < n;)
            document.push_back(static_cast<int>(random() % static_cast<unsigned>(largest)));
    return documents;
}

/// NAME.bin in `count` raw slices, as `split -b` makes them, and NAME.bin away.
void slice(const std::string& name, size_t count, size_t bytes_a_slice) {
    const std::string all = read_file(name + ".bin");
    for (size_t i = 0; i < count; ++i) {
        const std::string part = fmt::format("-{:05}-of-{:05}.bin", i, count - 1);
        write_file(name + part, all.substr(std::min(all.size(), i * bytes_a_slice),
                                           i + 1 == count ? std::string::npos : bytes_a_slice));
    }
    fs::remove(name + ".bin");
}

}  // namespace

TEST_CASE("megatron files: whole and in slices, of both types, give their documents") {
    const test::TemporaryFolder folder;
    const auto check = [&](const std::string& name, const std::vector<std::vector<int>>& documents) {
        std::vector<int32_t> expected;
        std::vector<int64_t> offsets{0};
        for (const auto& document : documents) {
            expected.insert(expected.end(), document.begin(), document.end());
            offsets.push_back(std::ssize(expected));
        }
        for (const char* ending : {".idx", ".bin"}) {
            const TokenStore store(name + ending);
            CHECK(all_tokens(store) == expected);
            CHECK(test::offsets_of(store) == offsets);
            for (int64_t first = 0; first < store.num_tokens(); ++first)  // across every border of slices
                for (int64_t n : {1, 2, 7}) {
                    if (first + n > store.num_tokens()) continue;
                    std::vector<int32_t> part(static_cast<size_t>(n));
                    store.read(first, n, part.data());
                    REQUIRE(std::equal(part.begin(), part.end(), expected.begin() + first));
                }
            store.verify();
        }
    };
    const auto small = some_documents(65536), large = some_documents(1 << 20);
    write_set<uint16_t>(folder.file("a"), 8, small);
    write_set<int32_t>(folder.file("b"), 4, large);
    check(folder.file("a"), small);
    check(folder.file("b"), large);
    slice(folder.file("a"), 4, 62);
    slice(folder.file("b"), 3, 200);
    check(folder.file("a"), small);
    check(folder.file("b"), large);
}

TEST_CASE("megatron files: what prepare writes are the bytes that GPT-NeoX writes, and the samples of an .h5 store") {
    const test::TemporaryFolder folder;
    ThreadPool pool(2);
    write_file(folder.file("one.txt"), "Call me Ishmael. Some years ago");
    write_file(folder.file("two.txt"), "never mind how long precisely, having little or no money in my purse");
    const Tokenizer tokenizer = Tokenizer::load(test::fixture_path("tokenizer.json"));
    PrepareOptions options;
    options.inputs = {folder.file("one.txt"), folder.file("two.txt")};
    for (const char* file : {"set.idx", "set.h5"}) {
        options.output = folder.file(file);
        prepare(tokenizer, options, pool);
    }
    TokenStore set(folder.file("set.idx"));
    const TokenStore h5(folder.file("set.h5"));
    set.assume_tokenizer(tokenizer);
    CHECK(all_tokens(set) == all_tokens(h5));
    CHECK(test::offsets_of(set) == test::offsets_of(h5));
    CHECK(set.info().begin_of_text_id == h5.info().begin_of_text_id);

    std::vector<std::vector<int>> documents(2);
    const auto offsets = test::offsets_of(h5);
    const auto tokens = all_tokens(h5);
    for (size_t d = 0; d < 2; ++d) documents[d].assign(tokens.begin() + offsets[d], tokens.begin() + offsets[d + 1]);
    write_set<uint16_t>(folder.file("neox"), 8, documents);
    for (const char* ending : {".idx", ".bin"})
        CHECK(read_file(folder.file("set") + ending) == read_file(folder.file("neox") + ending));

    const Sampler of_set(set, test::neox_order(set, 8, 1, 30)), of_h5(h5, test::neox_order(h5, 8, 1, 30));
    REQUIRE(of_set.size() == of_h5.size());
    std::vector<int32_t> a(9), b(9);
    for (int64_t i = 0; i < of_set.size(); ++i) {
        of_set.sample(i, a.data());
        of_h5.sample(i, b.data());
        CHECK(a == b);
    }
}

TEST_CASE("megatron files: the fingerprint tells texts of one shape apart, not types, slices or names") {
    const test::TemporaryFolder folder;
    const auto fingerprint = [&](const std::string& name) {
        return TokenStore(folder.file(name) + ".idx").fingerprint();
    };
    const auto written = [&](const std::vector<std::vector<int>>& documents) {
        write_set<uint16_t>(folder.file("changed"), 8, documents);
        return fingerprint("changed");
    };
    for (const size_t length : {size_t{5}, size_t{300'000}}) {  // read as a whole, and in parts
        std::vector<std::vector<int>> documents{std::vector<int>(length, 3), {4}, {}, std::vector<int>(3 * length, 5)};
        write_set<uint16_t>(folder.file("a"), 8, documents);
        write_set<int32_t>(folder.file("wide"), 4, documents);
        const std::string plain = fingerprint("a");
        CAPTURE(plain);
        CHECK(fingerprint("wide") == plain);
        CHECK(written(documents) == plain);
        slice(folder.file("a"), 3, 2 * length);
        CHECK(fingerprint("a") == plain);
        std::swap(documents[1], documents[2]);  // the same tokens, cut elsewhere
        CHECK(written(documents) != plain);
        std::swap(documents[1], documents[2]);
        documents.front().front() = 7;
        CHECK(written(documents) != plain);
        documents.front().front() = 3;
        documents.back().back() = 7;
        CHECK(written(documents) != plain);
        fs::remove_all(folder.path());
        fs::create_directory(folder.path());
    }
    CHECK(written({}).starts_with("0 tokens in 0 documents"));
}

TEST_CASE("megatron files: what older versions called a set, its sizes alone, is still its name") {
    const test::TemporaryFolder folder;
    write_set<uint16_t>(folder.file("a"), 8, {{1, 2, 3}, {4}});
    const TokenStore store(folder.file("a.idx"));
    CHECK(store.has_fingerprint("4 tokens in 2 documents"));
    CHECK(store.has_fingerprint(store.fingerprint()));
    CHECK_FALSE(store.has_fingerprint("4 tokens in 3 documents"));
    CHECK_FALSE(store.has_fingerprint(store.fingerprint() + "0"));
}

TEST_CASE("megatron files: a preshuffled set is read in its own order") {
    const test::TemporaryFolder folder;
    std::vector<std::vector<int>> samples(10, std::vector<int>(9));
    for (int i = 0; i < 90; ++i) samples[static_cast<size_t>(i / 9)][static_cast<size_t>(i % 9)] = i;
    write_set<uint16_t>(folder.file("set"), 8, samples);
    const TokenStore store(folder.file("set.idx"));
    const auto preshuffled = [&](int64_t length, int64_t wanted) {
        return make_sample_order(store, {.kind = OrderKind::preshuffled, .seq_length = length, .samples = wanted});
    };
    const SampleOrder order = preshuffled(8, 10);
    const Sampler sampler(store, order);
    REQUIRE(sampler.size() == 10);
    CHECK(Sampler::bytes(store, order) == 0);
    std::vector<int32_t> out(9), starts(9, -1);
    for (int64_t i = 0; i < 10; ++i) {
        sampler.sample(i, out.data(), starts.data());
        CHECK(std::equal(out.begin(), out.end(), samples[static_cast<size_t>(i)].begin()));
        CHECK(starts == std::vector<int32_t>(9, 0));
    }
    CHECK_THAT(test::message_of([&] { preshuffled(8, 11); }), ContainsSubstring("holds 10 samples"));
    CHECK_THAT(test::message_of([&] { preshuffled(5, 1); }), ContainsSubstring("samples of 5 + 1 tokens"));
    CHECK_THAT(test::message_of([&] { preshuffled(4, 1); }), ContainsSubstring("its first sequence has 9"));
}

TEST_CASE("megatron files: damaged, foreign and missing ones are named") {
    const test::TemporaryFolder folder;
    const std::string name = folder.file("a");
    const auto message = [&] { return test::message_of([&] { TokenStore(name + ".idx").verify(); }); };
    const auto change = [&](const std::string& file, size_t at, char value) {
        std::string bytes = read_file(name + file);
        bytes[at] = value;
        write_file(name + file, bytes);
    };
    const auto fresh = [&] { write_set<uint16_t>(name, 8, some_documents(100)); };
    CHECK_THAT(message(), ContainsSubstring("a.idx"));
    fresh();
    change(".idx", 0, 'X');
    CHECK_THAT(message(), ContainsSubstring("not an index"));
    fresh();
    write_file(name + ".idx", std::string_view("TNTIDX\0\0 and more", 17));
    CHECK_THAT(message(), ContainsSubstring("older kind"));
    fresh();
    change(".idx", 9, 2);
    CHECK_THAT(message(), ContainsSubstring("version 2"));
    fresh();
    change(".idx", 17, 6);
    CHECK_THAT(message(), ContainsSubstring("type 6"));
    fresh();
    change(".idx", 25, 100);  // 2^60 sequences
    CHECK_THAT(message(), ContainsSubstring("damaged"));
    fresh();
    change(".idx", 34, 77);  // the first length
    CHECK_THAT(message(), ContainsSubstring("document 1 of"));
    fresh();
    const std::string index = read_file(name + ".idx"), tokens = read_file(name + ".bin");
    for (size_t cut = 0; cut < index.size(); cut += 7) {
        write_file(name + ".idx", index.substr(0, cut));
        CHECK(!message().empty());
    }
    fresh();
    write_file(name + ".bin", tokens.substr(0, tokens.size() - 1));
    CHECK_THAT(message(), ContainsSubstring("cut short"));
    write_file(name + ".bin", tokens.substr(0, tokens.size() - 2));
    CHECK_THAT(message(), ContainsSubstring("a part is missing"));
    fs::remove(name + ".bin");
    CHECK_THAT(message(), ContainsSubstring("a.bin"));
    fresh();
    slice(name, 3, 50);
    fs::remove(folder.file("a-00001-of-00002.bin"));
    CHECK_THAT(message(), ContainsSubstring("a-00001-of-00002.bin"));
    for (const size_t other : {2, 4}) {  // two sets, in either order of their names
        fresh();
        slice(name, 3, 50);
        const std::string second = fmt::format("a-00000-of-{:05}.bin", other + 1);
        write_file(folder.file(second), "");
        CHECK_THAT(message(), ContainsSubstring(second) && ContainsSubstring("a-00000-of-00002.bin") &&
                                  ContainsSubstring("two sets of slices"));
        fs::remove(folder.file(second));
        CHECK(message().empty());
    }
    // A vocabulary that the tokens do not fit.
    fresh();
    TokenStore store(name + ".idx");
    const Tokenizer tokenizer = Tokenizer::load(test::fixture_path("tokenizer.json"));
    store.assume_tokenizer(tokenizer);
    store.verify();
    write_set<uint16_t>(name, 8, {{1, 2, 60000}});
    TokenStore other(name + ".idx");
    other.assume_tokenizer(tokenizer);
    CHECK_THAT(test::message_of([&] { other.verify(); }), ContainsSubstring("another tokenizer"));
}

}  // namespace ballast::data

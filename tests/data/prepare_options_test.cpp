// What `data prepare` can do beside tokenising: leave duplicates out, hold documents out, count.
#include <sys/resource.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "base/thread_pool.h"
#include "data/duplicates.h"
#include "data/json_line.h"
#include "data/prepare.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"

namespace ballast::data {
namespace {

using Catch::Matchers::ContainsSubstring;
using TokenLists = std::vector<std::vector<int32_t>>;

TokenLists documents_of(const std::string& path) {
    const TokenStore store(path);
    store.verify();
    TokenLists out;
    for (int64_t d = 0; d < store.num_documents(); ++d) {
        const int64_t begin = store.document_offset(d), end = store.document_offset(d + 1);
        out.emplace_back(static_cast<size_t>(end - begin));
        store.read(begin, end - begin, out.back().data());
    }
    return out;
}

/// A text of its own for each number.
std::string text(unsigned n) {
    return "whale number " + std::to_string(n) + (n % 3 == 0 ? " with more words behind it" : "");
}

struct Workplace {
    test::TemporaryFolder folder;
    Tokenizer tokenizer = Tokenizer::load(test::fixture_path("tokenizer.json"));
    PrepareOptions options;

    Workplace() {
        options.inputs = {folder.file("a.jsonl")};
        options.output = folder.file("train.h5");
    }
    void write(const std::vector<unsigned>& numbers, const std::string& more = "") const {
        std::string lines;
        for (const unsigned n : numbers) lines += "{\"text\": \"" + text(n) + "\"" + more + "}\n";
        test::put_bytes(options.inputs[0], lines);
    }
    PrepareResult prepare(int threads = 1) const {
        ThreadPool pool(threads);
        return data::prepare(tokenizer, options, pool);
    }
    std::vector<int32_t> ids(unsigned n) const {
        const auto ids = tokenizer.encode(text(n));
        std::vector<int32_t> out(ids.begin(), ids.end());
        out.push_back(0);
        return out;
    }
};

}  // namespace

TEST_CASE("duplicates: the same for any memory, and as a set finds them") {
    std::mt19937_64 random(5);
    std::vector<DocumentHash> hashes(3000);
    for (DocumentHash& hash : hashes) hash = {random() % 50, random() % 40};  // 2000 pairs
    for (int i = 0; i < 500; ++i) hashes.push_back({random(), random()});
    for (int i = 0; i < 3000; ++i) hashes.push_back({7, 7});  // more than most of these memories hold
    std::shuffle(hashes.begin(), hashes.end(), random);
    std::set<DocumentHash> seen;
    std::vector<bool> expected;
    for (const DocumentHash& hash : hashes) expected.push_back(!seen.insert(hash).second);
    for (const size_t memory : {size_t{1}, size_t{100}, size_t{5000}, size_t{30000}, size_t{1} << 20}) {
        int passes = 0;
        const auto found = find_duplicates(
            std::ssize(hashes),
            [&](const std::function<void(const DocumentHash&)>& visit) {
                ++passes;
                for (const DocumentHash& hash : hashes) visit(hash);
            },
            memory);
        INFO(memory);
        CHECK((found == expected));
        CHECK((memory == size_t{1} << 20 ? passes == 1 : passes > 1));
    }
    CHECK(find_duplicates(
              0, [](const auto&) {}, 100)
              .empty());
}

TEST_CASE("duplicates: a text that comes again and again takes no more memory") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return;  // they have memory of their own
#else
    const auto peak = [] {
        rusage usage{};
        ::getrusage(RUSAGE_SELF, &usage);
        return usage.ru_maxrss * 1024;
    };
    constexpr int64_t kCount = 1'000'000;  // their entries are 24 MB
    const int64_t before = peak();
    const auto found = find_duplicates(
        kCount,
        [](const std::function<void(const DocumentHash&)>& visit) {
            for (int64_t i = 0; i < kCount; ++i) visit({1, 2});
        },
        size_t{1} << 20);
    CHECK(peak() - before <= int64_t{8} << 20);
    CHECK(std::count(found.begin(), found.end(), true) == kCount - 1);
    CHECK_FALSE(found.front());
#endif
}

TEST_CASE("prepare: of documents with the same text the first is kept") {
    Workplace place;
    place.options.drop_duplicates = true;
    place.write({4, 7, 4, 9, 7, 4, 12});
    CHECK(place.prepare().num_duplicates == 3);
    CHECK(documents_of(place.options.output) == TokenLists{place.ids(4), place.ids(7), place.ids(9), place.ids(12)});

    // A text in pieces is the same as in one line, and one that goes on is another.
    std::string novel;
    for (unsigned i = 0; i < 400; ++i) novel += text(i) + " ";
    test::put_bytes(place.folder.file("x.txt"), novel);
    test::put_bytes(place.folder.file("y.jsonl"), "{\"text\": \"" + novel + "\"}\n{\"text\": \"" + novel + "!\"}\n");
    place.options.inputs = {place.folder.file("x.txt"), place.folder.file("y.jsonl")};
    for (const size_t bytes : {size_t{64}, size_t{1} << 17}) {
        place.options.piece_bytes = bytes;
        const PrepareResult result = place.prepare(2);
        CHECK(result.num_duplicates == 1);
        CHECK(result.num_documents == 2);
        CHECK(documents_of(place.options.output).size() == 2);
    }
}

TEST_CASE("prepare: without duplicates the end of the text is held out of what is kept") {
    Workplace place;
    place.write({4, 4, 4, 4, 4, 4, 7, 9});
    place.options.drop_duplicates = true;
    place.options.validation_output = place.folder.file("val.h5");
    place.options.validation_fraction = 0.5;
    const PrepareResult result = place.prepare();
    CHECK(result.num_tokens == std::ssize(place.ids(4)) + std::ssize(place.ids(7)) + std::ssize(place.ids(9)));
    CHECK(result.num_validation_tokens == (result.num_tokens + 1) / 2);
    std::vector<int32_t> joined, expected;
    for (const auto& path : {place.options.output, place.options.validation_output})
        for (const auto& document : documents_of(path)) joined.insert(joined.end(), document.begin(), document.end());
    for (const unsigned n : {4, 7, 9}) {
        const auto ids = place.ids(n);
        expected.insert(expected.end(), ids.begin(), ids.end());
    }
    CHECK(joined == expected);
}

TEST_CASE("prepare: held out by hash, a document is on the same side whatever stands beside it") {
    Workplace place;
    place.options.validation_output = place.folder.file("val.h5");
    place.options.validation_by = ValidationBy::hash;
    place.options.validation_fraction = 0.2;
    const auto sides = [&](std::vector<unsigned> numbers) {
        place.write(numbers);
        place.prepare(2);
        const TokenLists train = documents_of(place.options.output),
                         held = documents_of(place.options.validation_output);
        CHECK(train.size() + held.size() == numbers.size());
        std::map<unsigned, bool> side;
        size_t next_train = 0, next_held = 0;  // each in the order of the text
        for (const unsigned n : numbers) {
            const bool is_held = next_held < held.size() && held[next_held] == place.ids(n);
            REQUIRE((is_held ? held[next_held++] : train[next_train++]) == place.ids(n));
            side[n] = is_held;
        }
        return side;
    };
    std::vector<unsigned> numbers(1000);
    for (unsigned i = 0; i < 1000; ++i) numbers[i] = i;
    const auto all = sides(numbers);
    const auto held_out = std::count_if(all.begin(), all.end(), [](const auto& one) { return one.second; });
    CHECK(std::abs(static_cast<double>(held_out) - 200) < 5 * 12.65);  // five sigma of a binomial
    std::shuffle(numbers.begin(), numbers.end(), std::mt19937(1));
    CHECK(sides(numbers) == all);
    numbers.resize(300);
    for (const auto& [n, side] : sides(numbers)) CHECK(all.at(n) == side);
    place.options.validation_fraction = 0.4;  // a larger share holds out more, and what it held out before
    for (const auto& [n, side] : sides(numbers)) CHECK((side || !all.at(n)));
    place.options.validation_fraction = 1e-9;
    CHECK_THAT(test::message_of([&] { sides(numbers); }), ContainsSubstring("holds no document out"));
}

TEST_CASE("prepare: documents and tokens are counted by the set that they are of") {
    Workplace place;
    test::put_bytes(place.options.inputs[0],
                    "{\"text\": \"one\", \"meta\": {\"pile_set_name\": \"Pile-CC\"}}\n"
                    "{\"meta\": {\"x\": [1, {}], \"pile_set_name\": \"Caf\\u00e9\"}, \"text\": \"two two\"}\n"
                    "{\"text\": \"\", \"meta\": {\"pile_set_name\": \"Empty\"}}\n"
                    "{\"text\": \"three\", \"meta\": {\"pile_set_name\": \"Pile-CC\"}}\n"
                    "{\"text\": \"four\", \"meta\": 7}\n");
    const auto groups = [&] {
        place.prepare();
        return TokenStore(place.options.output).info().groups;
    };
    const auto tokens = [&](const char* text) { return std::ssize(place.tokenizer.encode(text)) + 1; };
    CHECK(groups() ==
          GroupCounts{{"Pile-CC", {2, tokens("one") + tokens("three")}}, {"Caf\u00e9", {1, tokens("two two")}}});
    place.options.group_key = "meta.x";  // no text
    CHECK(groups().empty());
    place.options.group_key = "text";  // the text itself is taken first
    CHECK(groups().empty());
    place.options.group_key = "";
    CHECK(groups().empty());
    place.options.group_key = "kind";
    place.write({1, 2}, ", \"kind\": \"k\"");
    CHECK(groups() == GroupCounts{{"k", {2, std::ssize(place.ids(1)) + std::ssize(place.ids(2))}}});
}

TEST_CASE("json line: the field of a field, wherever it stands") {
    const auto group_of = [](const std::string& line, const std::string& key) {
        std::string text, group = "before";
        text_of_json_line(line, "text", InvalidUtf8::error, text, key, group);
        return group;
    };
    CHECK(group_of(R"({"text": "a", "meta": {"pile_set_name": "B"}})", "meta.pile_set_name") == "B");
    CHECK(group_of(R"({"meta": { "a": {"pile_set_name": "C"}, "pile_set_name" : "B" } , "text": "a"})",
                   "meta.pile_set_name") == "B");
    CHECK(group_of(R"({"text": "a", "meta": {}})", "meta.pile_set_name") == "");
    CHECK(group_of(R"({"text": "a", "meta": {"pile_set_name": null}})", "meta.pile_set_name") == "");
    CHECK(group_of(R"({"text": "a", "pile_set_name": "B"})", "meta.pile_set_name") == "");
    CHECK(group_of(R"({"text": "a", "meta": "B"})", "meta") == "B");
    CHECK(group_of(R"({"text": "a", "meta": "B"})", "") == "");
    const auto refused = [&](const std::string& line) {
        return test::message_of([&] { group_of(line, "meta.pile_set_name"); });
    };
    CHECK_THAT(refused(R"({"text": "a", "meta": {"x": 1 "y": 2}})"), ContainsSubstring("a comma or } is missing"));
    CHECK_THAT(refused(R"({"text": "a", "meta": {"pile_set_name": "B"})"), ContainsSubstring("ends too early"));
}

}  // namespace ballast::data

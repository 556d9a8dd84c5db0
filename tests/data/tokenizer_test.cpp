#include "data/tokenizer.h"

#include <random>

#include "base/atomic_file.h"
#include "data/bpe.h"
#include "data/byte_level.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"

namespace ballast::data {
namespace {

Tokenizer fixture_tokenizer() { return Tokenizer::load(test::fixture_path("tokenizer.json")); }

std::string random_text(std::mt19937& random, size_t characters) {
    static constexpr char32_t kPool[] = {'a', 'b', 'e', 't', 'h', ' ', ' ', '\n', '\'', 's', '1', '.', '<', 0xE9, 0x301,
                                         0x4E2D, 0x1F600, 0xA0};
    std::string text;
    for (size_t i = 0; i < characters; ++i) append_utf8(text, kPool[random() % std::size(kPool)]);
    return text;
}

/// Lowest rank first, leftmost first, by scanning all pairs each time.
std::vector<uint32_t> merge_plainly(const MergeTable& merges, std::string_view word) {
    std::vector<uint32_t> ids;
    for (char byte : word) ids.push_back(merges.byte_id(static_cast<uint8_t>(byte)));
    for (;;) {
        const MergeTable::Merge* best = nullptr;
        size_t at = 0;
        for (size_t i = 0; i + 1 < ids.size(); ++i) {
            const MergeTable::Merge* merge = merges.find(ids[i], ids[i + 1]);
            if (merge && (!best || merge->rank < best->rank)) {
                best = merge;
                at = i;
            }
        }
        if (!best) return ids;
        ids[at] = best->id;
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
}

}  // namespace

TEST_CASE("tokenizer: the ids of the tokenizers package") {
    const Tokenizer tokenizer = fixture_tokenizer();
    const auto cases = test::parity_cases();
    REQUIRE(cases.size() > 50);
    Encoder encoder(tokenizer);  // one for all, so that the cache is in play
    for (int round = 0; round < 2; ++round) {
        for (const auto& [text, expected] : cases) {
            std::vector<uint32_t> ids;
            encoder.encode(text, ids);
            INFO("text: " << text);
            REQUIRE(ids == expected);
            REQUIRE(tokenizer.encode(text) == expected);
        }
    }
}

TEST_CASE("tokenizer: GPT-NeoX's on whole books gives the package's ids") {
    // FNV-1a over the ids tokenizers 0.23.3 gave for the file.
    struct Golden {
        const char* book;
        size_t count;
        uint64_t hash;
    };
    constexpr Golden kGolden[] = {{"books/train/dracula.txt", 220878, 0x986e314f68914128},
                                  {"books/stream/ulysses.txt", 416732, 0x3993ae41bff8f595}};
    const auto path = test::shared_data("20B_tokenizer.json");
    if (!path) return;
    const Tokenizer tokenizer = Tokenizer::load(*path);
    CHECK(tokenizer.vocab_size() == 50277);
    CHECK(tokenizer.end_of_text_id() == 0u);
    CHECK(tokenizer.token_id("<|padding|>") == 1u);
    CHECK(tokenizer.hash() == "78f3f743513db1d57da97b51b656b47e");
    for (const Golden& golden : kGolden) {
        const auto book = test::shared_data(golden.book);
        if (!book) continue;
        const std::string text = read_file(*book);
        const auto ids = tokenizer.encode(text);
        uint64_t hash = 0xcbf29ce484222325ull;
        for (uint32_t id : ids) hash = (hash ^ id) * 0x100000001b3ull;
        CHECK(ids.size() == golden.count);
        CHECK(hash == golden.hash);
        CHECK(tokenizer.decode(ids) == text);  // these books are in NFC
    }
}

TEST_CASE("tokenizer: decoding gives the text back") {
    const Tokenizer tokenizer = fixture_tokenizer();
    std::mt19937 random(3);
    for (int round = 0; round < 500; ++round) {
        const std::string text = random_text(random, random() % 200);
        const auto ids = tokenizer.encode(text);
        // NFC is the only change; a second pass changes nothing more.
        const std::string decoded = tokenizer.decode(ids);
        REQUIRE(tokenizer.decode(tokenizer.encode(decoded)) == decoded);
        if (text.find("\u0301") == std::string::npos) REQUIRE(decoded == text);
    }
}

TEST_CASE("tokenizer: parts cut at safe places have the ids of the whole") {
    const Tokenizer tokenizer = fixture_tokenizer();
    std::mt19937 random(5);
    for (int round = 0; round < 1500; ++round) {
        const std::string text =
            random_text(random, 60) + (round % 3 ? "" : " caf\u00e9 noir") + random_text(random, 20);
        const size_t end = 1 + random() % text.size();
        const size_t cut = tokenizer.last_safe_cut(std::string_view(text).substr(0, end));
        if (cut == 0) continue;
        auto left = tokenizer.encode(std::string_view(text).substr(0, cut));
        const auto right = tokenizer.encode(std::string_view(text).substr(cut));
        left.insert(left.end(), right.begin(), right.end());
        REQUIRE(left == tokenizer.encode(text));
    }
    CHECK(tokenizer.last_safe_cut("caf\u00e9 noi") == 0);  // an added token may span the only space
    CHECK(tokenizer.last_safe_cut("one two") == 3);
    TokenizerSpec spec = tokenizer.spec();
    spec.added_tokens.push_back({2000, "one two", true, false});
    CHECK(Tokenizer(spec).last_safe_cut("one two") == 0);
    CHECK(Tokenizer(spec).last_safe_cut("two one") == 3);
}

TEST_CASE("tokenizer: the heap merges as the plain rule does") {
    std::mt19937 random(17);
    for (int round = 0; round < 300; ++round) {
        MergeTable merges;
        for (int byte = 0; byte < 256; ++byte) merges.set_byte(static_cast<uint8_t>(byte), static_cast<uint32_t>(byte));
        std::vector<uint32_t> alphabet = {'a', 'b', 'c'};
        for (uint32_t rank = 0; rank < 30; ++rank) {
            const uint32_t left = alphabet[random() % alphabet.size()], right = alphabet[random() % alphabet.size()];
            if (merges.find(left, right)) continue;
            merges.set_merge(left, right, {rank, 1000 + rank});
            alphabet.push_back(1000 + rank);
        }
        WordMerger merger(merges);
        std::string word(random() % 200, '\0');
        for (char& c : word) c = static_cast<char>('a' + random() % 3);
        std::vector<uint32_t> ids;
        merger.encode(word, ids);
        REQUIRE(ids == merge_plainly(merges, word));
    }
}

TEST_CASE("tokenizer: the word cache forgets without harm") {
    WordCache cache;
    for (uint32_t i = 0; i < 300000; ++i) {
        const std::string word = "word" + std::to_string(i);
        const uint64_t hash = WordCache::hash_of(word);
        REQUIRE(cache.find(word, hash).empty());
        const uint32_t ids[] = {i, i + 1};
        cache.insert(word, hash, ids);
        const auto found = cache.find(word, hash);
        REQUIRE((found.size() == 2 && found[0] == i && found[1] == i + 1));
        const std::string other = "word" + std::to_string(i / 2);
        const auto old = cache.find(other, WordCache::hash_of(other));
        REQUIRE((old.empty() || old[0] == i / 2));
    }
}

TEST_CASE("tokenizer: saving keeps ids and hash") {
    const test::TemporaryFolder folder;
    const Tokenizer first = fixture_tokenizer();
    first.save(folder.file("a.json"));
    const Tokenizer second = Tokenizer::load(folder.file("a.json"));
    CHECK(second.hash() == first.hash());
    CHECK(second.vocab_size() == first.vocab_size());
    for (const auto& [text, ids] : test::parity_cases()) REQUIRE(second.encode(text) == ids);
    TokenizerSpec other = first.spec();
    std::swap(other.merges[0], other.merges[1]);
    CHECK(Tokenizer(other).hash() != first.hash());
    other = first.spec();
    other.normalizers.clear();
    CHECK(Tokenizer(other).hash() != first.hash());
}

TEST_CASE("tokenizer: bytes that are no UTF-8") {
    const Tokenizer tokenizer = fixture_tokenizer();
    const std::string message = test::message_of([&] { tokenizer.encode("ab\xFFz"); });
    CHECK(message.find("byte 2") != std::string::npos);
    CHECK(tokenizer.encode("ab\xFFz", InvalidUtf8::replace) == tokenizer.encode("ab\uFFFDz"));
}

TEST_CASE("tokenizer: ids without a token cannot be decoded") {
    const Tokenizer tokenizer = fixture_tokenizer();
    const auto unknown = static_cast<uint32_t>(tokenizer.vocab_size());
    CHECK(!tokenizer.token_bytes(unknown));
    const std::string message = test::message_of([&] { tokenizer.decode(std::vector<uint32_t>{0, unknown}); });
    CHECK(message.find("token id " + std::to_string(unknown)) != std::string::npos);
}

TEST_CASE("tokenizer: byte-level spelling") {
    CHECK(to_byte_level(" the\n") == "\u0120the\u010a");
    std::string all;
    for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
    CHECK(from_byte_level(to_byte_level(all)) == all);
    CHECK(!from_byte_level("a b"));
    CHECK(!from_byte_level("\u4e2d"));
}

}  // namespace ballast::data

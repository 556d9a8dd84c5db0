#include "data/bpe_trainer.h"

#include <map>
#include <random>

#include "base/thread_pool.h"
#include "data/tokenizer.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"

namespace ballast::data {
namespace {

TextPiece text_piece(std::string text) { return {std::move(text), "test", 0, true}; }

TokenizerSpec train(const std::vector<std::string>& texts, int64_t vocab_size, int threads = 1,
                    int64_t min_frequency = 0) {
    BpeTrainerOptions options;
    options.vocab_size = vocab_size;
    options.min_frequency = min_frequency;
    BpeTrainer trainer(options);
    ThreadPool pool(threads);
    std::vector<TextPiece> pieces;
    for (const auto& text : texts) pieces.push_back(text_piece(text));
    trainer.add_texts(pieces, pool);
    return trainer.train();
}

std::vector<std::pair<std::string, std::string>> spelled_merges(const TokenizerSpec& spec) {
    std::vector<std::pair<std::string, std::string>> out;
    for (const MergeRule& rule : spec.merges)
        out.emplace_back(spec.vocabulary[rule.left].first, spec.vocabulary[rule.right].first);
    return out;
}

/// The definition: recounts everything before each merge. Words of printable ASCII.
std::vector<std::pair<std::string, std::string>> train_plainly(const std::vector<std::string>& texts,
                                                               size_t num_merges) {
    std::vector<std::vector<uint32_t>> words;
    const TokenizerSpec bytes = train({""}, 258);
    std::vector<std::string> spellings;
    std::map<std::string, uint32_t> ids;
    for (const auto& [spelling, id] : bytes.vocabulary) {
        spellings.push_back(spelling);
        ids[spelling] = id;
    }
    for (const std::string& text : texts) {
        words.emplace_back();
        for (char letter : text) words.back().push_back(ids.at(std::string(1, letter)));
    }
    std::vector<std::pair<std::string, std::string>> merges;
    while (merges.size() < num_merges) {
        std::map<std::pair<uint32_t, uint32_t>, int64_t> counts;
        for (const auto& w : words)
            for (size_t i = 1; i < w.size(); ++i) ++counts[{w[i - 1], w[i]}];
        std::pair<uint32_t, uint32_t> best;
        int64_t most = 0;
        for (const auto& [pair, count] : counts)  // ascending, so the first of equals stays
            if (count > most) {
                most = count;
                best = pair;
            }
        if (most == 0) break;
        const std::string joined = spellings[best.first] + spellings[best.second];
        const auto [it, is_new] = ids.emplace(joined, static_cast<uint32_t>(spellings.size()));
        if (is_new) spellings.push_back(joined);
        merges.emplace_back(spellings[best.first], spellings[best.second]);
        for (auto& w : words)
            for (size_t i = 0; i + 1 < w.size(); ++i)
                if (w[i] == best.first && w[i + 1] == best.second) {
                    w[i] = it->second;
                    w.erase(w.begin() + static_cast<std::ptrdiff_t>(i) + 1);
                }
    }
    return merges;
}

}  // namespace

TEST_CASE("BPE trainer: the package's merges") {
    const auto expected = test::training_case();
    const TokenizerSpec spec = train({expected.text}, expected.vocab_size);
    CHECK(spelled_merges(spec) == expected.merges);
    CHECK(spec.vocabulary[0].first == "<|endoftext|>");
    CHECK(spec.vocabulary[1].first == "<|padding|>");
    CHECK(spec.vocabulary[2].first == "!");
    CHECK(Tokenizer(spec).decode(Tokenizer(spec).encode(expected.text)) != "");
}

TEST_CASE("BPE trainer: the definition, on random words") {
    std::mt19937 random(29);
    for (int round = 0; round < 30; ++round) {
        std::vector<std::string> words;  // each a text of its own, so that none begins with a space
        for (int w = 0; w < 40; ++w) {
            std::string word(1 + random() % 9, 'a');
            for (char& c : word) c = static_cast<char>('a' + random() % 3);
            words.push_back(word);
        }
        const auto merges = spelled_merges(train(words, 258 + 40));
        const auto expected = train_plainly(words, merges.size());
        INFO("round " << round);
        REQUIRE(!merges.empty());
        REQUIRE(merges == expected);
    }
}

TEST_CASE("BPE trainer: threads and the cut of the text change nothing") {
    const std::string text = test::training_case().text;
    const auto whole = spelled_merges(train({text}, 360));
    const size_t cut = text.rfind(' ', text.size() / 2);
    CHECK(spelled_merges(train({text.substr(0, cut), text.substr(cut)}, 360, 2)) == whole);
    CHECK(spelled_merges(train({text.substr(cut), "", text.substr(0, cut)}, 360, 3)) == whole);
}

TEST_CASE("BPE trainer: rare pairs stay apart") {
    const auto spec = train({"aab aab aab cd"}, 1000, 1, 3);
    for (const auto& [left, right] : spelled_merges(spec)) CHECK((left + right).find('c') == std::string::npos);
    CHECK(spec.merges.size() == 2);  // "aa" and "aab"; with a space before, "aab" occurs twice only
}

TEST_CASE("BPE trainer: impossible requests") {
    CHECK(test::message_of([] { BpeTrainer({.vocab_size = 257}); }).find("--vocab-size 257") != std::string::npos);
    CHECK(test::message_of([] { BpeTrainer({.vocab_size = 300, .special_tokens = {"x", "y", "y"}}); }) != "");
    CHECK(test::message_of([] { BpeTrainer({.vocab_size = 300, .special_tokens = {"<|e|>", "a"}}); }) != "");
    BpeTrainer trainer({.vocab_size = 300});
    ThreadPool pool(1);
    CHECK(test::message_of([&] {
              trainer.add_texts({text_piece("a\xFF")}, pool);
          }).find("test: invalid UTF-8 at byte 1") != std::string::npos);
}

}  // namespace ballast::data

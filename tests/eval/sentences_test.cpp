#include "eval/sentences.h"

#include "tests/base/message_of.h"
#include "tests/catch.h"

using namespace ballast;
using namespace ballast::eval;
using namespace ballast::test;

namespace {

using Sentences = std::vector<std::string>;

/// A token a letter that is no space, so that lengths can be counted by eye.
std::vector<uint32_t> letters(std::string_view text) {
    std::vector<uint32_t> out;
    for (const char c : text)
        if (c != ' ') out.push_back(static_cast<uint32_t>(c));
    return out;
}

std::string spelt(const std::vector<uint32_t>& tokens) {
    std::string out;
    for (const uint32_t token : tokens) out += static_cast<char>(token);
    return out;
}

}  // namespace

TEST_CASE("sentences end at marks before white space and at blank lines") {
    CHECK(split_sentences("One  two.\nThree! Four? Five") == Sentences{"One two.", "Three!", "Four?", "Five"});
    CHECK(split_sentences("A heading\n\nText goes\non. End.") == Sentences{"A heading", "Text goes on.", "End."});
    CHECK(split_sentences("It cost 3.50 at a.b. then") == Sentences{"It cost 3.50 at a.b.", "then"});
    CHECK(split_sentences("\"Go!\" (He went.) \u201cStop.\u201d So\u2026 on") ==
          Sentences{"\"Go!\"", "(He went.)", "\u201cStop.\u201d", "So\u2026", "on"});
    CHECK(split_sentences("Mr. and Mrs. Bennet met Dr. J. White. They left.") ==
          Sentences{"Mr. and Mrs. Bennet met Dr. J. White.", "They left."});
    CHECK(split_sentences("An end. ") == Sentences{"An end."});
    CHECK(split_sentences(" \n \n ").empty());
    CHECK(split_sentences("").empty());
}

TEST_CASE("abbreviations: only short words with a capital and nothing after the full stop") {
    CHECK(split_sentences("St. Ives") == Sentences{"St. Ives"});
    CHECK(split_sentences("He sat. Then") == Sentences{"He sat.", "Then"});
    CHECK(split_sentences("Four. Then") == Sentences{"Four.", "Then"});
    CHECK(split_sentences("(Mr.) X") == Sentences{"(Mr.)", "X"});
    CHECK(split_sentences("Go! X") == Sentences{"Go!", "X"});
}

TEST_CASE("sequences of an exact length begin with a sentence, whole ones first") {
    const std::string text = "abcde. fgh. ij. klmn. opqrstu.";  // 6 4 3 5 8 letters
    const auto ten = sentence_sequences(text, letters, 10, 9);
    REQUIRE(ten.sequences.size() == 4);  // the last sentence has but 8
    CHECK(ten.whole == 1);
    CHECK(spelt(ten.sequences[0]) == "abcde.fgh.");
    CHECK(spelt(ten.sequences[1]) == "fgh.ij.klm");
    CHECK(spelt(ten.sequences[2]) == "ij.klmn.op");
    CHECK(spelt(ten.sequences[3]) == "klmn.opqrs");

    const auto three = sentence_sequences(text, letters, 3, 2);  // "ij." is whole; of the others, evenly
    REQUIRE(three.sequences.size() == 2);
    CHECK(three.whole == 1);
    CHECK(spelt(three.sequences[0]) == "ij.");
    CHECK(spelt(three.sequences[1]) == "abc");
}

TEST_CASE("sentences count that end within the first tokens, and no later ones") {
    const std::string text = "abcde. fgh. ij. klmn. opqrstu.";  // 6 4 3 5 8 letters
    const auto found = [&](int64_t max_tokens) {
        std::vector<std::string> out;
        for (const auto& sequence : sentence_sequences(text, letters, 3, 9, max_tokens).sequences)
            out.push_back(spelt(sequence));
        return out;
    };
    CHECK(found(0) == Sentences{"ij.", "abc", "fgh", "klm", "opq"});
    CHECK(found(26) == found(0));
    CHECK(found(25) == Sentences{"ij.", "abc", "fgh", "klm"});
    CHECK(found(13) == Sentences{"ij.", "abc", "fgh"});
    CHECK(found(12) == Sentences{"abc", "fgh"});
    CHECK(found(6) == Sentences{"abc"});
    CHECK(message_of([&] { found(5); }).find("the text's first 5 tokens") != std::string::npos);
}

TEST_CASE("of many whole sentences as many as asked for are taken, spread over the text") {
    const auto two = sentence_sequences("a. b. c. d. e. f.", letters, 2, 3);
    REQUIRE(two.sequences.size() == 3);
    CHECK(two.whole == 3);
    CHECK(spelt(two.sequences[0]) == "a.");
    CHECK(spelt(two.sequences[1]) == "c.");
    CHECK(spelt(two.sequences[2]) == "e.");
    CHECK_THROWS_AS(sentence_sequences("a. b.", letters, 5, 3), UserError);
    CHECK(message_of([] { sentence_sequences("a. b.", letters, 5, 3); }).find("5 tokens") != std::string::npos);
}

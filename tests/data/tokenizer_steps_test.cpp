// Each step of a pipeline by itself, on tokenizers made here. The expected pieces and texts are those of tokenizers
// 0.23.3.
#include <fmt/format.h>

#include "base/error.h"
#include "data/byte_level.h"
#include "data/foreign_pattern.h"
#include "data/piece_splitter.h"
#include "data/tokenizer.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"

namespace ballast::data {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(std::vector<PreTokenizer> steps, std::string_view text, bool at_start = true) {
    const SplitPlan plan(std::move(steps), false);
    PieceSplitter splitter(plan);
    Pieces pieces;
    for (const auto& piece : splitter.split(text, at_start))
        pieces.emplace_back(splitter.text().substr(piece.begin, piece.end - piece.begin));
    return pieces;
}

std::string normalize(std::vector<Normalizer> steps, std::string_view text, bool prepend = true) {
    TextNormalizer::Storage storage;
    return std::string(TextNormalizer(std::move(steps)).normalize(text, storage, prepend));
}

std::string decode(const std::vector<TokenDecoderStep>& steps, const Pieces& tokens) {
    std::string text;
    TokenDecoder decoder(steps, text);
    for (const std::string& token : tokens) decoder.push(token);
    decoder.finish();
    return text;
}

/// Every pair of ASCII letters and digits is its characters: a vocabulary of single characters and byte tokens.
TokenizerSpec character_spec() {
    TokenizerSpec spec;
    spec.pre_tokenizers.clear();
    spec.decoder = {FuseStep{}};
    spec.unk_token = "<unk>";
    uint32_t id = 0;
    for (const char* token : {"<unk>", "a", "b", "c", "ab", "abc", "\u2581", "\u2581a", "bc"})
        spec.vocabulary.emplace_back(token, id++);
    spec.merges = {{1, 2, 4}, {6, 1, 7}, {4, 3, 5}};
    return spec;
}

std::vector<uint32_t> ids_of(const TokenizerSpec& spec, std::string_view text) { return Tokenizer(spec).encode(text); }

using Ids = std::vector<uint32_t>;

}  // namespace

TEST_CASE("steps: what becomes of matches when text is split") {
    const auto at = [](SplitBehavior behavior, bool invert = false) {
        return std::vector<PreTokenizer>{SplitStep{"-", false, behavior, invert}};
    };
    const char* text = "-a--b-";
    CHECK(split(at(SplitBehavior::isolated), text) == Pieces{"-", "a", "-", "-", "b", "-"});
    CHECK(split(at(SplitBehavior::removed), text) == Pieces{"a", "b"});
    CHECK(split(at(SplitBehavior::contiguous), text) == Pieces{"-", "a", "--", "b", "-"});
    CHECK(split(at(SplitBehavior::merged_with_previous), text) == Pieces{"-", "a-", "-", "b-"});
    CHECK(split(at(SplitBehavior::merged_with_next), text) == Pieces{"-a", "-", "-b", "-"});
    CHECK(split(at(SplitBehavior::removed, true), text) == Pieces{"-", "-", "-", "-"});
    CHECK(split(at(SplitBehavior::contiguous, true), text) == Pieces{"-", "a", "--", "b", "-"});
}

TEST_CASE("steps: digits, punctuation, BERT's words, bytes") {
    CHECK(split({DigitsStep{true}}, "ab12c3") == Pieces{"ab", "1", "2", "c", "3"});
    CHECK(split({DigitsStep{false}}, "ab12\u00BDc") == Pieces{"ab", "12\u00BD", "c"});
    CHECK(split({PunctuationStep{SplitBehavior::contiguous}}, "don't!!") == Pieces{"don", "'", "t", "!!"});
    CHECK(split({BertPreTokenizerStep{}}, " don't\u00A0go $5 ") == Pieces{"don", "'", "t", "go", "$", "5"});
    CHECK(split({ByteLevelStep{}}, "a b\u00E9") == Pieces{"a", " b\u00E9"});
    CHECK(split({ByteLevelStep{true, false}}, "a b") == Pieces{" a b"});
    CHECK(split({ByteLevelStep{}, DigitsStep{true}}, "a \u043C") == Pieces{"a", "\u0120\u00D0", "\u00BC"});
    CHECK(split({DigitsStep{true}, ByteLevelStep{}}, "in 1984.") == Pieces{"in", " ", "1", "9", "8", "4", "."});
}

TEST_CASE("steps: Metaspace puts its letter before pieces as its scheme says") {
    const auto with = [](PrependScheme scheme, bool cut) {
        return std::vector<PreTokenizer>{MetaspaceStep{"_", scheme, cut}};
    };
    CHECK(split(with(PrependScheme::always, false), "a b") == Pieces{"_a_b"});
    CHECK(split(with(PrependScheme::always, false), " a") == Pieces{"_a"});
    CHECK(split(with(PrependScheme::never, false), "a b") == Pieces{"a_b"});
    CHECK(split(with(PrependScheme::first, false), "a b", true) == Pieces{"_a_b"});
    CHECK(split(with(PrependScheme::first, false), "a b", false) == Pieces{"a_b"});
    CHECK(split(with(PrependScheme::always, true), "a  b") == Pieces{"_a", "_", "_b"});
    CHECK(split({SplitStep{"-", false, SplitBehavior::removed, false}, MetaspaceStep{"_", PrependScheme::first, false}},
                "a-b") == Pieces{"_a", "b"});
}

TEST_CASE("steps: regular expressions see the package's classes") {
    const auto matches = [](const char* pattern, std::string_view text) {
        const ForeignPattern compiled{pattern};
        const ForeignPattern::Matcher matcher(compiled);
        Pieces found;
        for (size_t at = 0; at < text.size();) {
            const auto match = matcher.find(text, at);
            if (!match) break;
            found.emplace_back(text.substr(match->begin, match->end - match->begin));
            at = match->end;
        }
        return found;
    };
    CHECK(matches("\\p{L}+", "ab1\u00E9\u0101 c") == Pieces{"ab", "\u00E9\u0101", "c"});
    CHECK(matches("\\P{L}+", "ab1 c") == Pieces{"1 "});
    CHECK(matches("[^\\s\\p{L}]+", "ab12 3\u00A0!") == Pieces{"12", "3", "!"});
    CHECK(matches("[\\S\\n]+", "a\n b\tc") == Pieces{"a\n", "b", "c"});
    CHECK(matches("(?i:'s)", "x's'S'\u017F") == Pieces{"'s", "'S", "'\u017F"});
    CHECK(matches("\\p{N}{1,3}", "12345") == Pieces{"123", "45"});
    CHECK(matches("\\s+(?!\\S)|\\s+", "a   b") == Pieces{"  ", " "});
    CHECK(matches("[\\u4e00-\\u9fa5]", "a\u4E2Db") == Pieces{"\u4E2D"});
    CHECK(matches("\\p{L}", "\u1C89") == Pieces{"\u1C89"});  // a letter since Unicode 16
    CHECK(matches("\\x{1F600}|\\.", "a.\U0001F600") == Pieces{".", "\U0001F600"});
}

TEST_CASE("steps: a pattern that backtracks without end is an error, not a hang") {
    const ForeignPattern pattern("(a+)+[bd]");
    const ForeignPattern::Matcher matcher(pattern);
    const std::string text(5000, 'a');
    CHECK(test::message_of([&] { matcher.find(text + "c", 0); }).find("gives up on a stretch of 5001 bytes") !=
          std::string::npos);
}

TEST_CASE("steps: normalizers in their order") {
    CHECK(normalize({PrependStep{"_"}, ReplaceStep{" ", "_"}}, "a b") == "_a_b");
    CHECK(normalize({PrependStep{"_"}, ReplaceStep{" ", "_"}}, "a b", false) == "a_b");
    CHECK(normalize({PrependStep{"_"}}, "") == "");
    CHECK(normalize({ReplaceStep{"ab", "b"}, NfcStep{}}, "aab e\u0301") == "ab \u00E9");
    CHECK(normalize({BertNormalizerStep{}}, "H\u00E9\tLL\u0130\u4E2Do\u200B!") == "he lli \u4E2D o!");
    CHECK(normalize({BertNormalizerStep{true, true, {}, false}}, "H\u00E9") == "H\u00E9");
    CHECK(normalize({BertNormalizerStep{true, true, true, false}}, "H\u00E9") == "He");
    CHECK(normalize({BertNormalizerStep{false, false, false, true}}, "\u0130\u4E2D\t") == "i\u0307\u4E2D\t");
}

TEST_CASE("steps: decoders in their order") {
    const std::vector<TokenDecoderStep> llama = {ReplaceStep{"\u2581", " "}, ByteFallbackStep{}, FuseStep{},
                                                 StripStep{" ", 1}};
    CHECK(decode(llama, {"\u2581a", "\u2581b"}) == "a b");
    CHECK(decode(llama, {"<s>", "\u2581a"}) == "<s> a");
    CHECK(decode(llama, {"\u2581", "\u2581a"}) == " a");
    CHECK(decode(llama, {"x", "<0xE4>", "<0xB8>", "<0xAD>", "y"}) == "x\u4E2Dy");
    CHECK(decode(llama, {"<0xE4>", "<0xB8>", "<0x0A>"}) == "\uFFFD\uFFFD\uFFFD");
    CHECK(decode({StripStep{" ", 1}}, {" a", "  b"}) == "a b");
    CHECK(decode({WordPieceDecoderStep{}}, {"I", "don", "'", "t", "##est", "."}) == "I don ' test.");
    CHECK(decode({WordPieceDecoderStep{"##", false}}, {"##a", "##b", "."}) == "##ab .");
    CHECK(decode({MetaspaceStep{}}, {"\u2581a", "\u2581b"}) == "a b");
    CHECK(decode({MetaspaceStep{"\u2581", PrependScheme::never, true}}, {"\u2581a"}) == " a");
    CHECK(decode({ByteLevelDecoderStep{}}, {"\u0120a", "\u00C3", "\u00A9", "\u4E2D"}) == " a\u00E9\u4E2D");
}

TEST_CASE("steps: characters without a token are bytes, or unknown, one by one or as one") {
    TokenizerSpec spec = character_spec();
    CHECK(ids_of(spec, "abc") == Ids{5});
    CHECK(ids_of(spec, "axyb") == Ids{1, 0, 0, 2});
    spec.fuse_unk = true;
    CHECK(ids_of(spec, "axyb") == Ids{1, 0, 2});
    CHECK(ids_of(spec, "abxyzxab") == Ids{4, 0, 4});
    spec.byte_fallback = true;
    for (uint32_t byte = 0; byte < 256; ++byte)
        spec.vocabulary.emplace_back(fmt::format("<0x{:02X}>", byte), 100 + byte);
    CHECK(ids_of(spec, "a\u00E9b") == Ids{1, 100 + 0xC3, 100 + 0xA9, 2});
}

TEST_CASE("steps: bytes without a token vanish, or are unknown") {
    TokenizerSpec spec;
    for (uint32_t byte = 0; byte < 256; ++byte)
        if (byte != 4 && byte != 6)
            spec.vocabulary.emplace_back(to_byte_level(std::string(1, static_cast<char>(byte))), byte);
    spec.vocabulary.emplace_back("ab", 300);
    spec.merges = {{'a', 'b', 300}};
    const std::string text =
        "a\x04\x06"
        "b\x06";
    CHECK(ids_of(spec, text) == Ids{'a', 'b'});  // two words: no letters
    CHECK(ids_of(spec, "\x04\x04") == Ids{});
    spec.pre_tokenizers = {ByteLevelStep{false, false}};
    CHECK(ids_of(spec, text) == Ids{300});
    spec.unk_token = "!";
    CHECK(ids_of(spec, text) == Ids{'a', '!', '!', 'b', '!'});
    spec.fuse_unk = true;
    CHECK(ids_of(spec, text) == Ids{'a', '!', 'b', '!'});
}

TEST_CASE("steps: ignore_merges takes a word of the vocabulary whole, but no added token") {
    TokenizerSpec spec = character_spec();
    CHECK(ids_of(spec, "bc") == Ids{2, 3});
    spec.ignore_merges = true;
    CHECK(ids_of(spec, "bc") == Ids{8});
    spec.added_tokens.push_back({9, "cc", false, false, false, false, true});
    CHECK(ids_of(spec, "cc") == Ids{9});
    CHECK(ids_of(spec, "ccb") == Ids{3, 3, 2});
}

TEST_CASE("steps: WordPiece takes the longest piece, or the whole word is unknown") {
    TokenizerSpec spec = character_spec();
    spec.model = TokenModel::word_piece;
    spec.merges.clear();
    spec.vocabulary = {{"[UNK]", 0}, {"un", 1}, {"u", 2}, {"##n", 3}, {"##known", 4}, {"\u00E9", 5}, {"##\u00E9", 6}};
    spec.unk_token = "[UNK]";
    spec.max_word_characters = 8;
    spec.pre_tokenizers = {BertPreTokenizerStep{}};
    CHECK(ids_of(spec, "unknown un u") == Ids{1, 4, 1, 2});
    CHECK(ids_of(spec, "unx \u00E9\u00E9") == Ids{0, 5, 6});
    CHECK(ids_of(spec, "unnnnnnn unnnnnnnn") == Ids{1, 3, 3, 3, 3, 3, 3, 0});
}

TEST_CASE("steps: added tokens swallow white space, want words to themselves, hide what they cover") {
    TokenizerSpec spec = character_spec();
    spec.added_tokens = {{20, "<L>", false, false, true, false, false},
                         {21, "<R>", false, false, false, true, false},
                         {22, "cab", false, false, false, false, true},
                         {23, "ab", false, false, false, false, false}};
    spec.vocabulary.emplace_back(" ", 30);
    CHECK(ids_of(spec, "a \n <L> b") == Ids{1, 20, 30, 2});
    CHECK(ids_of(spec, "a <R> \u3000b") == Ids{1, 30, 21, 2});
    CHECK(ids_of(spec, "<R>  <L>b") == Ids{21, 20, 2});
    CHECK(ids_of(spec, "cab cab") == Ids{22, 30, 22});
    CHECK(ids_of(spec, "cabb") == Ids{3, 4, 2});  // refused, and "ab" inside it stays hidden: merged, not added
    CHECK(ids_of(spec, "_cab") == Ids{0, 3, 4});
    CHECK(ids_of(spec, "abb") == Ids{23, 2});
}

TEST_CASE("steps: of added tokens that are equal once normalized the special one is found, else the lower id") {
    // As tokenizers 0.21.4 has it; 0.23.3 takes either, from one load to the next.
    const std::string composed = "\u00E9", decomposed = "e\u0301";
    for (const auto& [first, second] : {std::pair{composed, decomposed}, {decomposed, composed}})
        for (const bool first_is_special : {false, true})
            for (const bool second_is_special : {false, true}) {
                TokenizerSpec spec = character_spec();
                spec.normalizers = {NfcStep{}};
                spec.added_tokens = {{20, first, first_is_special, true}, {21, second, second_is_special, true}};
                const uint32_t found = second_is_special && !first_is_special ? 21 : 20;
                CAPTURE(first_is_special, second_is_special);
                for (const std::string& text : {composed, decomposed})
                    CHECK(ids_of(spec, "a" + text + "b") == Ids{1, found, 2});
            }
}

TEST_CASE("steps: words end before U+2581 only where no merge joins across it") {
    TokenizerSpec spec = character_spec();
    spec.normalizers = {ReplaceStep{" ", "\u2581"}};
    CHECK(WordModel(spec).ends_words_at_metaspace());
    CHECK(ids_of(spec, "ab a  a") == Ids{4, 7, 6, 7});
    spec.vocabulary.emplace_back("a\u2581", 40);
    spec.merges.insert(spec.merges.begin(), {1, 6, 40});
    CHECK(!WordModel(spec).ends_words_at_metaspace());
    CHECK(ids_of(spec, "a a") == Ids{40, 1});
    CHECK(Tokenizer(spec).last_safe_cut("ab ab") == 0);
}

TEST_CASE("steps: a tokenizer's hash tells pipelines apart, and leaves template and decoder aside") {
    const auto hash = [](const TokenizerSpec& spec) { return Tokenizer(spec).hash(); };
    const TokenizerSpec spec = character_spec();
    TokenizerSpec other = spec;
    other.decoder.push_back(StripStep{" ", 1});
    other.post_processor.single = {{TemplateItem::Kind::special, "c", {3}, 0}, {}};
    CHECK(hash(other) == hash(spec));
    CHECK(Tokenizer(other).begin_of_text_id() == 3u);
    other = spec;
    other.pre_tokenizers = {MetaspaceStep{}};
    const std::string with_metaspace = hash(other);
    CHECK(with_metaspace != hash(spec));
    other.pre_tokenizers = {MetaspaceStep{"\u2581", PrependScheme::first, true}};
    CHECK(hash(other) != with_metaspace);
    other = spec;
    other.normalizers = {PrependStep{"\u2581"}};
    CHECK(hash(other) != hash(spec));
    other = spec;
    other.fuse_unk = true;
    CHECK(hash(other) != hash(spec));
    other = spec;
    other.added_tokens = {{50, "x"}};
    const std::string with_token = hash(other);
    other.added_tokens.front().lstrip = true;
    CHECK(hash(other) != with_token);
}

TEST_CASE("steps: text comes out of a stream in whole characters, and no sooner than it is sure") {
    TokenizerSpec spec = character_spec();
    spec.byte_fallback = true;
    for (uint32_t byte = 0; byte < 256; ++byte)
        spec.vocabulary.emplace_back(fmt::format("<0x{:02X}>", byte), 100 + byte);
    spec.added_tokens = {{400, "<s>", true}};
    spec.decoder = {ReplaceStep{"\u2581", " "}, ByteFallbackStep{}, FuseStep{}, StripStep{" ", 1}};
    const Tokenizer tokenizer(spec);
    StreamDecoder stream(tokenizer, true);
    const auto push_all = [&](const Ids& ids) {
        Pieces parts;
        for (uint32_t id : ids) parts.push_back(stream.push(id));
        parts.push_back(stream.finish());
        return parts;
    };
    CHECK(push_all({400, 7, 7}) == Pieces{"", "a", " a", ""});
    CHECK(push_all({1, 100 + 0xC3, 100 + 0xA9, 2}) == Pieces{"a", "", "", "\u00E9b", ""});
    CHECK(push_all({100 + 0xC3}) == Pieces{"", "\uFFFD"});
    CHECK(push_all({7}) == Pieces{"a", ""});  // a new sequence, and its first space goes again
    CHECK_THROWS_AS(stream.push(99), UserError);
}

TEST_CASE("steps: half characters of a byte-level stream wait for the rest, or become U+FFFD") {
    std::string bytes = "a\xE4\xB8";
    CHECK(take_whole_characters(bytes) == "a");
    CHECK(bytes == "\xE4\xB8");
    bytes += "\xAD";
    CHECK(take_whole_characters(bytes) == "\u4E2D");
    bytes = "\xE4(\xFF\xF0\x9F";
    CHECK(take_whole_characters(bytes) == "\uFFFD(\uFFFD");
    CHECK(bytes == "\xF0\x9F");
    bytes = "\xC0\x80";
    CHECK(take_whole_characters(bytes) == "\uFFFD\uFFFD");
}

}  // namespace ballast::data

// tokenizer.json from strangers.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "base/atomic_file.h"
#include "base/error.h"
#include "data/tokenizer.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"

namespace ballast::data {
namespace {

using Json = nlohmann::json;

Json fixture() { return Json::parse(read_file(test::fixture_path("tokenizer.json"))); }

std::string message_for(const Json& json) {
    return test::message_of([&] { parse_tokenizer_json(json.dump(), "t.json"); });
}

/// Changes one field of a good file; the message must name the file and the field.
void check_refused(const char* pointer, const Json& value, const char* field) {
    Json json = fixture();
    json[Json::json_pointer(pointer)] = value;
    const std::string message = message_for(json);
    INFO(pointer << " = " << value.dump().substr(0, 60) << ": " << message);
    CHECK(message.find("t.json: field \"" + std::string(field) + "\"") != std::string::npos);
}

}  // namespace

TEST_CASE("tokenizer.json: merges as strings and as pairs are the same") {
    Json json = fixture();
    const std::string before = Tokenizer(parse_tokenizer_json(json.dump(), "t.json")).hash();
    for (auto& merge : json["model"]["merges"]) {
        if (merge.is_array()) {
            merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
        } else {
            const auto text = merge.get<std::string>();
            merge = Json::array({text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)});
        }
    }
    CHECK(Tokenizer(parse_tokenizer_json(json.dump(), "t.json")).hash() == before);
}

TEST_CASE("tokenizer.json: merges of tokens with a space are written so that they are read again") {
    Json json = fixture();
    json["model"]["vocab"]["x y"] = 90000;
    json["model"]["vocab"]["x y z"] = 90001;
    json["model"]["vocab"][" y"] = 90002;
    json["model"]["vocab"]["y z"] = 90003;
    json["model"]["merges"].push_back(Json::array({"x", " y"}));
    json["model"]["merges"].push_back(Json::array({"x y", " z"}));
    json["model"]["vocab"][" z"] = 90004;
    const TokenizerSpec spec = parse_tokenizer_json(json.dump(), "t.json");
    const TokenizerSpec back = parse_tokenizer_json(to_tokenizer_json(spec), "written.json");
    CHECK(Tokenizer(back).hash() == Tokenizer(spec).hash());
    const Json plain = Json::parse(to_tokenizer_json(parse_tokenizer_json(fixture().dump(), "t.json")));
    CHECK(plain["model"]["merges"][0].is_string());  // as every version of the package reads it
}

TEST_CASE("tokenizer.json: a Sequence of one stage is that stage, and of none is no stage") {
    const Json before = fixture();
    const auto hash = [](const Json& json) { return Tokenizer(parse_tokenizer_json(json.dump(), "t.json")).hash(); };
    Json json = before;
    json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array({{{"type", "NFC"}}})}};
    json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array({before["pre_tokenizer"]})}};
    CHECK(hash(json) == hash(before));
    json["normalizer"]["normalizers"] = Json::array();
    Json without = before;
    without["normalizer"] = nullptr;
    CHECK(hash(json) == hash(without));
    check_refused("/normalizer", json["normalizer"]["normalizers"], "normalizer");
    Json nested = {{"type", "NFC"}};
    for (int depth = 0; depth < 3; ++depth) nested = {{"type", "Sequence"}, {"normalizers", Json::array({nested})}};
    json["normalizer"] = nested;
    CHECK(hash(json) == hash(before));
    std::string deep = "{\"type\": \"NFC\"}";
    for (int depth = 0; depth < 10000; ++depth) deep = "{\"type\": \"Sequence\", \"normalizers\": [" + deep + "]}";
    json["normalizer"] = "DEEP";
    std::string text = json.dump();
    text.replace(text.find("\"DEEP\""), 6, deep);
    CHECK(test::message_of([&] { parse_tokenizer_json(text, "t.json"); }).find("too deep") != std::string::npos);
    check_refused("/normalizer", {{"type", "Sequence"}, {"normalizers", Json::array({{{"type", "NFKC"}}})}},
                  "normalizer.normalizers[0].type");
    check_refused("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array()}}, "decoder");
}

TEST_CASE("tokenizer.json: holes are filled so that the package's own numbering gives the same ids") {
    TokenizerSpec spec = parse_tokenizer_json(fixture().dump(), "t.json");
    const uint32_t size = std::max(spec.vocabulary.back().second, spec.added_tokens.back().id) + 1;
    spec.vocabulary.emplace_back("far", size + 5);
    spec.added_tokens.push_back({size + 2, "<|inside|>", true, false});
    spec.added_tokens.push_back({size + 9, "<|after|>", true, false});
    spec.added_tokens.push_back({size + 10, "<|unused_" + std::to_string(size) + "|>", true, false});
    const TokenizerSpec before = spec;
    fill_holes(spec);
    // As the package numbers: the vocabulary's ids, then added tokens one after another.
    std::map<std::string, uint32_t> ids(spec.vocabulary.begin(), spec.vocabulary.end());
    CHECK(ids.size() == size + 6);
    for (const AddedToken& token : spec.added_tokens) {
        const auto [found, added] = ids.emplace(token.content, static_cast<uint32_t>(ids.size()));
        CHECK(found->second == token.id);
    }
    CHECK(ids.size() == size + 11);
    for (const AddedToken& token : before.added_tokens) CHECK(ids.at(token.content) == token.id);
    for (const auto& [token, id] : before.vocabulary) REQUIRE(ids.at(token) == id);
    const std::string once = to_tokenizer_json(spec);
    fill_holes(spec);
    CHECK(to_tokenizer_json(spec) == once);
    CHECK(to_tokenizer_json(parse_tokenizer_json(once, "t.json")) == once);
}

TEST_CASE("tokenizer.json: how batches are cut and filled up is passed over") {
    Json json = fixture();
    json["truncation"] = {{"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}, {"direction", "Right"}};
    json["padding"] = {{"strategy", {{"Fixed", 8}}}, {"pad_id", 0}, {"pad_token", "[PAD]"}};
    const Tokenizer plain(parse_tokenizer_json(fixture().dump(), "t.json")),
        batched(parse_tokenizer_json(json.dump(), "t.json"));
    const std::string text = "Pathless woods and lonely shores, all of them.";
    CHECK(plain.encode(text).size() > 8);
    CHECK(batched.encode(text) == plain.encode(text));
    CHECK(batched.hash() == plain.hash());
}

TEST_CASE("tokenizer.json: settings that would make other tokens are refused by name") {
    check_refused("/normalizer", {{"type", "NFKC"}}, "normalizer.type");
    check_refused("/normalizer", "NFC", "normalizer");
    check_refused("/pre_tokenizer", nullptr, "decoder");
    check_refused("/pre_tokenizer/type", "Whitespace", "pre_tokenizer.type");
    check_refused("/pre_tokenizer/use_regex", "yes", "pre_tokenizer.use_regex");
    check_refused("/post_processor", {{"type", "TemplateProcessing"}}, "post_processor.single");
    check_refused("/post_processor", {{"type", "RobertaProcessing"}}, "post_processor.type");
    check_refused("/decoder", {{"type", "Metaspace"}}, "decoder");
    check_refused("/decoder", {{"type", "CTC"}}, "decoder.type");
    check_refused("/model/type", "Unigram", "model.type");
    check_refused("/model/dropout", 0.1, "model.dropout");
    check_refused("/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix");
    check_refused("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix");
    check_refused("/model/byte_fallback", true, "model.byte_fallback");
    check_refused("/added_tokens/0/lstrip", 1, "added_tokens[0].lstrip");
    Json json = fixture();
    json["normalizer"] = {{"type", "NFKC"}};
    CHECK(message_for(json) ==
          "t.json: field \"normalizer.type\" is \"NFKC\", which is not supported; Ballast has NFC, Prepend, "
          "Replace, BertNormalizer, Sequence");
}

TEST_CASE("tokenizer.json: steps that lie are refused by name") {
    const auto step = [](const char* type, Json fields) {
        fields["type"] = type;
        return fields;
    };
    const auto behind_bytes = [&](Json last) {
        return Json{{"type", "Sequence"}, {"pretokenizers", Json::array({step("ByteLevel", Json::object()), last})}};
    };
    check_refused("/pre_tokenizer", behind_bytes(step("Metaspace", Json::object())), "pre_tokenizer");
    check_refused("/pre_tokenizer", behind_bytes(step("ByteLevel", Json::object())), "pre_tokenizer");
    check_refused("/pre_tokenizer", behind_bytes(step("Digits", {{"individual_digits", 3}})),
                  "pre_tokenizer.pretokenizers[1].individual_digits");
    check_refused("/pre_tokenizer", behind_bytes(step("Punctuation", {{"behavior", "Sideways"}})),
                  "pre_tokenizer.pretokenizers[1].behavior");
    const auto split = [&](Json pattern) {
        return behind_bytes(step("Split", {{"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}}));
    };
    const std::string inside = "pre_tokenizer.pretokenizers[1].pattern";
    check_refused("/pre_tokenizer", split(Json::object()), inside.c_str());
    check_refused("/pre_tokenizer", split({{"Regex", 7}}), (inside + ".Regex").c_str());
    for (const char* pattern :
         {"a*", "(a", "[a", "\\d+", "\\p{Lu}", "[[:alpha:]]", "a{2}+", "^a", "(?<n>a)", "\\", "\\x{", "x{,3}"})
        check_refused("/pre_tokenizer", split({{"Regex", pattern}}), (inside + ".Regex").c_str());
    check_refused("/normalizer", step("Replace", {{"pattern", {{"Regex", "a"}}}, {"content", "b"}}),
                  "normalizer.pattern.Regex");
    check_refused("/normalizer", step("Replace", {{"pattern", {{"String", ""}}}, {"content", "b"}}),
                  "normalizer.pattern.String");
    const auto decoders = [&](const char* first, const char* second, Json fields) {
        return Json{{"type", "Sequence"},
                    {"decoders", Json::array({step(first, Json::object()), step(second, fields)})}};
    };
    check_refused("/decoder", decoders("ByteLevel", "Strip", {{"content", "ab"}}), "decoder.decoders[1].content");
    check_refused("/decoder", decoders("ByteLevel", "Strip", {{"stop", 1}}), "decoder.decoders[1].stop");
    check_refused("/decoder", decoders("ByteLevel", "ByteFallback", Json::object()), "decoder");
}

TEST_CASE("tokenizer.json: templates that name what is not there are refused by name") {
    const auto special = [](const char* id) { return Json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}}; };
    const auto text = [](const char* id) { return Json{{"Sequence", {{"id", id}, {"type_id", 0}}}}; };
    const auto processor = [&](Json single, Json ids) {
        return Json{{"type", "TemplateProcessing"},
                    {"single", single},
                    {"pair", Json::array()},
                    {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", ids}, {"tokens", {"<s>"}}}}}}};
    };
    const Json fine = Json::array({special("<s>"), text("A")}), good_ids = Json::array({0});
    Json json = fixture();
    json["post_processor"] = processor(fine, good_ids);
    CHECK(Tokenizer(parse_tokenizer_json(json.dump(), "t.json"))
              .encode("a", InvalidUtf8::error, {.add_special = true})
              .size() == 2);
    json["post_processor"] = processor(Json::array({special("<s>"), text("A"), special("<s>")}), good_ids);
    const Tokenizer both(parse_tokenizer_json(json.dump(), "t.json"));
    const std::vector<uint32_t> plain = both.encode("a");
    CHECK(both.encode("a", InvalidUtf8::error, {.add_special = true}) == std::vector<uint32_t>{0, plain.at(0), 0});
    check_refused("/post_processor", processor(Json::array({special("</s>"), text("A")}), good_ids),
                  "post_processor.single[0].SpecialToken.id");
    check_refused("/post_processor", processor(Json::array({special("<s>")}), good_ids), "post_processor.single");
    check_refused("/post_processor", processor(Json::array({text("A"), text("A")}), good_ids), "post_processor.single");
    check_refused("/post_processor", processor(Json::array({text("B")}), good_ids), "post_processor.single");
    check_refused("/post_processor", processor(Json::array({text("C")}), good_ids),
                  "post_processor.single[0].Sequence.id");
    check_refused("/post_processor", processor(Json::array({7}), good_ids), "post_processor.single[0]");
    check_refused("/post_processor", processor(fine, Json::array({900000})), "post_processor");
    check_refused("/post_processor", processor(fine, Json::array({-1})), "post_processor.special_tokens.<s>.ids");
    check_refused("/post_processor", processor(fine, "0"), "post_processor.special_tokens.<s>.ids");
}

TEST_CASE("tokenizer.json: steps are written as they were read") {
    Json json = fixture();
    json["normalizer"] = Json::parse(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "_"},
        {"type": "Replace", "pattern": {"String": "x"}, "content": "y"}, {"type": "NFC"}, {"type": "BertNormalizer",
         "clean_text": false, "handle_chinese_chars": true, "strip_accents": null, "lowercase": false}]})");
    json["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": "q"}, "behavior": "MergedWithNext", "invert": true},
        {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false},
        {"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "Contiguous"},
        {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": false}, {"type": "BertPreTokenizer"},
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false}]})");
    json["post_processor"] = Json::parse(R"({"type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "E", "type_id": 2}}],
        "pair": [{"Sequence": {"id": "B", "type_id": 1}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"E": {"id": "E", "ids": [0], "tokens": ["<|endoftext|>"]}}})");
    json["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [{"type": "Metaspace", "replacement": "_",
        "prepend_scheme": "never", "split": true}, {"type": "WordPiece", "prefix": "##", "cleanup": false}, {"type": "ByteFallback"},
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false}, {"type": "Fuse"},
        {"type": "Strip", "content": "_", "start": 2, "stop": 0}]})");
    json["added_tokens"][0]["lstrip"] = json["added_tokens"][0]["single_word"] = true;
    json["added_tokens"][1]["rstrip"] = true;
    const Json written = Json::parse(to_tokenizer_json(parse_tokenizer_json(json.dump(), "t.json")));
    for (const char* stage : {"normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens"})
        CHECK(written.at(stage) == json.at(stage));
}

TEST_CASE("tokenizer.json: the base for every text, bytes or an unknown token, must be there") {
    Json json = fixture();
    json["pre_tokenizer"] = {{"type", "Metaspace"}};
    json["decoder"] = {{"type", "Metaspace"}};
    CHECK(message_for(json).find("field \"model.unk_token\" is missing") != std::string::npos);
    json["model"]["unk_token"] = "<none>";
    CHECK(message_for(json).find("\"<none>\", which is not in the vocabulary") != std::string::npos);
    json["model"]["unk_token"] = "<|endoftext|>";
    json["model"]["byte_fallback"] = true;
    CHECK(message_for(json).find("has no token \"<0x00>\"") != std::string::npos);
    json["model"]["byte_fallback"] = false;
    CHECK(message_for(json).empty());
    json["decoder"] = nullptr;
    CHECK(message_for(json).find("field \"decoder\" is missing") != std::string::npos);
}

TEST_CASE("tokenizer.json: contradictions are refused by name") {
    check_refused("/model/vocab", Json::array(), "model.vocab");
    check_refused("/model/vocab/a", -1, "model.vocab");
    check_refused("/model/vocab/a", 1.5, "model.vocab");
    check_refused("/model/vocab/a", uint64_t{1} << 40, "model.vocab");
    check_refused("/model/vocab/a", fixture()["model"]["vocab"]["b"], "model.vocab");
    check_refused("/model/merges", "a b", "model.merges");
    check_refused("/model/merges/0", "ab", "model.merges");
    check_refused("/model/merges/0", "a b c", "model.merges");
    check_refused("/model/merges/0", Json::array({"a"}), "model.merges");
    check_refused("/model/merges/0", Json::array({"zzzz", "zzzz"}), "model.merges");
    check_refused("/added_tokens", 3, "added_tokens");
    check_refused("/added_tokens/0/id", 5, "added_tokens[0].id");
    check_refused("/added_tokens/0/content", "", "added_tokens[0].content");
    check_refused("/added_tokens/1/content", "<|endoftext|>", "added_tokens[1].id");
    Json json = fixture();
    json["model"]["vocab"].erase("a");
    CHECK(message_for(json).find("has no token for byte 0x61") != std::string::npos);
    json = fixture();
    json["model"]["vocab"].erase("\u0104");  // byte 0x04
    CHECK(message_for(json).empty());
    json = fixture();
    json["added_tokens"].push_back(json["added_tokens"].back());
    CHECK(message_for(json).find("repeats an earlier added token") != std::string::npos);
}

TEST_CASE("tokenizer.json: truncated files are user errors") {
    const std::string text = read_file(test::fixture_path("tokenizer.json"));
    for (size_t size = 0; size + 2 < text.size(); size += 1 + size / 7) {
        INFO("first " << size << " bytes");
        CHECK_THROWS_AS(parse_tokenizer_json(std::string_view(text).substr(0, size), "t.json"), UserError);
    }
}

TEST_CASE("tokenizer.json: flipped bytes load or are user errors") {
    const std::string good = read_file(test::fixture_path("tokenizer.json"));
    std::mt19937 random(23);
    int refused = 0;
    for (int round = 0; round < 150; ++round) {
        std::string text = good;
        for (int flips = 0; flips < 3; ++flips) text[random() % text.size()] ^= static_cast<char>(1u << random() % 8);
        try {
            const Tokenizer tokenizer(parse_tokenizer_json(text, "t.json"));
            tokenizer.encode("Some text, <|endoftext|> and e\u0301  more");
        } catch (const UserError&) {
            ++refused;
        }
    }
    CHECK(refused > 50);
}

TEST_CASE("tokenizer.json: a missing file") {
    const test::TemporaryFolder folder;
    CHECK(test::message_of([&] { Tokenizer::load(folder.file("none.json")); }).find("none.json") != std::string::npos);
}

}  // namespace ballast::data

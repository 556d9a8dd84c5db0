// Tokenizers of other families, against what the `tokenizers` package made of hard strings (tokenizers/ in
// BALLAST_SHARED_DATA, tests/CMakeLists.txt).
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "base/atomic_file.h"
#include "data/tokenizer.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"

namespace ballast::data {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<uint32_t>;

constexpr const char* kFamilies[] = {"bert_cased",        "bert_uncased", "falcon", "llama2", "llama2_metaspace",
                                     "llama2_normalized", "llama2_spm",   "llama3", "mpt"};

std::vector<Json> read_lines(const std::string& path) {
    std::ifstream in(path);
    std::vector<Json> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
    return lines;
}

std::vector<Json> shared_lines(const std::string& family, const std::string& name) {
    const auto folder = test::shared_data("tokenizers/" + family);
    return folder ? read_lines(*folder + "/" + name) : std::vector<Json>{};
}

std::optional<Tokenizer> shared_tokenizer(const std::string& family, const std::string& name = "tokenizer.json") {
    const auto path = test::shared_data("tokenizers/" + family + "/" + name);
    return path ? std::optional<Tokenizer>(Tokenizer::load(*path)) : std::nullopt;
}

Ids encode(const Tokenizer& tokenizer, const std::string& text, bool add_special) {
    return tokenizer.encode(text, InvalidUtf8::error, {.add_special = add_special});
}

/// What decoding gives as text; streaming must give the same.
std::string decode(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
    std::string storage;
    const std::string text(checked_utf8(tokenizer.decode(ids, skip_special), InvalidUtf8::replace, storage));
    StreamDecoder stream(tokenizer, skip_special);
    std::string streamed;
    for (uint32_t id : ids) {
        const std::string part = stream.push(id);
        CHECK(valid_utf8_prefix(part) == part.size());
        streamed += part;
    }
    CHECK(streamed + stream.finish() == text);
    return text;
}

}  // namespace

TEST_CASE("families: the ids of the tokenizers package, with and without special tokens") {
    for (const char* family : kFamilies) {
        const auto tokenizer = shared_tokenizer(family);
        if (!tokenizer) continue;
        const auto cases = shared_lines(family, "cases.jsonl");
        REQUIRE(cases.size() > 500);
        Encoder encoder(*tokenizer);  // one for all, so that the cache is in play
        for (const Json& line : cases) {
            INFO(family << ": " << line.at("text"));
            Ids ids;
            encoder.encode(line.at("text").get<std::string>(), ids);
            CHECK(ids == line.at("ids").get<Ids>());
            CHECK(encode(*tokenizer, line.at("text"), true) == line.at("ids_special").get<Ids>());
        }
    }
}

TEST_CASE("families: the text of the tokenizers package, whole and streamed, with and without special tokens") {
    for (const char* family : kFamilies) {
        const auto tokenizer = shared_tokenizer(family);
        if (!tokenizer || std::string_view(family) == "llama2_normalized") continue;  // the package skips nothing there
        for (const Json& line : shared_lines(family, "cases.jsonl")) {
            INFO(family << ": " << line.at("text"));
            const Ids ids = line.at("ids_special");
            CHECK(decode(*tokenizer, ids, false) == line.at("decoded").get<std::string>());
            CHECK(decode(*tokenizer, ids, true) == line.at("decoded_skip").get<std::string>());
        }
        const auto lines = shared_lines(family, "decode.jsonl");
        REQUIRE(lines.size() == 180);
        for (const Json& line : lines) {
            INFO(family << ": " << line.at("ids").dump());
            CHECK(decode(*tokenizer, line.at("ids"), line.at("skip")) == line.at("decoded").get<std::string>());
        }
    }
}

TEST_CASE("families: BERT's pairs") {
    for (const char* family : {"bert_cased", "bert_uncased"}) {
        const auto tokenizer = shared_tokenizer(family);
        if (!tokenizer) continue;
        for (const Json& line : shared_lines(family, "pairs.jsonl")) {
            INFO(family << ": " << line.dump());
            const EncodedPair pair =
                tokenizer->encode_pair(line.at("a").get<std::string>(), line.at("b").get<std::string>());
            CHECK(pair.ids == line.at("ids").get<Ids>());
            CHECK(pair.type_ids == line.at("type_ids").get<Ids>());
        }
    }
}

TEST_CASE(
    "families: a tokenizer.model gives the ids and text of the tokenizer.json that equals it, and SentencePiece's") {
    const auto json = shared_tokenizer("llama2_spm"), model = shared_tokenizer("llama2_spm", "tokenizer.model");
    if (!json || !model) return;
    CHECK(model->hash() == json->hash());
    int64_t compared = 0;
    for (const Json& line : shared_lines("llama2_spm", "cases.jsonl")) {
        const std::string text = line.at("text");
        INFO(line.at("text"));
        CHECK(encode(*model, text, false) == line.at("ids").get<Ids>());
        CHECK(encode(*model, text, true) == line.at("ids_special").get<Ids>());
        CHECK(decode(*model, line.at("ids_special"), true) == line.at("decoded_skip").get<std::string>());
        if (line.at("ids") != line.at("spm_ids")) continue;  // the text spells a control token
        CHECK(decode(*model, line.at("spm_ids"), false) == line.at("spm_decoded").get<std::string>());
        ++compared;
    }
    CHECK(compared == 477);
}

TEST_CASE("families: special tokens with normalized true are skipped by id") {
    const auto tokenizer = shared_tokenizer("llama2_normalized");
    if (!tokenizer) return;
    const uint32_t bos = *tokenizer->token_id("<s>");
    const Ids text = encode(*tokenizer, "Call me Ishmael.", false);
    Ids ids{bos};
    ids.insert(ids.end(), text.begin(), text.end());
    CHECK(tokenizer->decode(ids, true) == "Call me Ishmael.");
}

TEST_CASE("families: saving and loading again changes no id and no text") {
    const test::TemporaryFolder folder;
    for (const char* family : kFamilies) {
        const auto first = shared_tokenizer(family);
        if (!first) continue;
        first->save(folder.file("tokenizer.json"));
        const Tokenizer second = Tokenizer::load(folder.file("tokenizer.json"));
        INFO(family);
        CHECK(second.hash() == first->hash());
        for (const Json& line : shared_lines(family, "cases.jsonl")) {
            const Ids ids = encode(second, line.at("text"), true);
            CHECK(ids == line.at("ids_special").get<Ids>());
            CHECK(second.decode(ids, true) == first->decode(ids, true));
        }
    }
}

TEST_CASE("families: parts cut at safe places have the ids of the whole") {
    std::mt19937 random(11);
    for (const char* family : kFamilies) {
        const auto tokenizer = shared_tokenizer(family);
        if (!tokenizer) continue;
        const auto cases = shared_lines(family, "cases.jsonl");
        int64_t cuts = 0;
        for (int round = 0; round < 2000; ++round) {
            std::string text;
            for (int i = 0; i < 3; ++i) {
                text += cases[random() % cases.size()].at("text").get<std::string>();
                if (random() % 2) text += " whale ";
            }
            const std::string_view all = text;
            const size_t cut = tokenizer->last_safe_cut(all.substr(0, random() % (all.size() + 1)));
            if (cut == 0) continue;
            ++cuts;
            Ids ids;
            Encoder encoder(*tokenizer);
            encoder.encode(all.substr(0, cut), ids);
            encoder.encode(all.substr(cut), ids, {.continues = true});
            INFO(family << ", cut at " << cut << ": " << text);
            REQUIRE(ids == tokenizer->encode(text));
        }
        INFO(family);
        CHECK(cuts > 1000);
    }
}

TEST_CASE("families: Pythia's tokenizer with the empty template that transformers 5 writes is the same tokenizer") {
    const auto path = test::shared_data("20B_tokenizer.json");
    if (!path) return;
    Json json = Json::parse(read_file(*path));
    const auto text_item = [](const char* name, int type) {
        return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
    };
    const Tokenizer before = Tokenizer::load(*path);
    for (const bool empty : {false, true}) {
        json["post_processor"] = {{"type", "TemplateProcessing"},
                                  {"single", empty ? Json::array() : Json::array({text_item("A", 0)})},
                                  {"pair", empty ? Json::array() : Json::array({text_item("A", 0), text_item("B", 1)})},
                                  {"special_tokens", Json::object()}};
        const Tokenizer tokenizer(parse_tokenizer_json(json.dump(), "t.json"));
        CHECK(tokenizer.hash() == before.hash());
        CHECK(encode(tokenizer, "Call me Ishmael.", true) == before.encode("Call me Ishmael."));
    }
}

}  // namespace ballast::data

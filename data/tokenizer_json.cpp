// Reads and writes tokenizer.json.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "data/byte_level.h"
#include "data/tokenizer_steps_json.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

using Json = nlohmann::json;
using TokenIds = std::unordered_map<std::string, uint32_t>;

void read_bpe_settings(const Fields& model, TokenizerSpec& spec) {
    if (const Json* dropout = model.find("dropout"); dropout && *dropout != 0.0) model.must_be_absent("dropout");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (!model.text(name).empty()) model.fail(name, "is not supported; set it to null");
    spec.ignore_merges = model.flag("ignore_merges", false);
    spec.byte_fallback = model.flag("byte_fallback", false);
    spec.fuse_unk = model.flag("fuse_unk", false);
    spec.unk_token = model.text("unk_token");
    if (spec.byte_fallback && byte_level_step(spec.pre_tokenizers))
        model.fail("byte_fallback", "is not supported with ByteLevel; set it to false");
}

void read_word_piece_settings(const Fields& model, TokenizerSpec& spec) {
    spec.unk_token = model.text("unk_token", "[UNK]");
    spec.continuing_prefix = model.text("continuing_subword_prefix", "##");
    spec.max_word_characters = model.count("max_input_chars_per_word", 100);
    if (byte_level_step(spec.pre_tokenizers)) model.fail("type", "is \"WordPiece\", which does not go with ByteLevel");
}

void read_model_settings(const Fields& model, TokenizerSpec& spec) {
    constexpr std::string_view kModels[] = {"BPE", "WordPiece"};
    // Old files name no type; those of BPE have merges.
    spec.model = static_cast<TokenModel>(model.choice("type", kModels, model.find("merges") ? "BPE" : nullptr));
    spec.model == TokenModel::bpe ? read_bpe_settings(model, spec) : read_word_piece_settings(model, spec);
}

/// Bytes a vocabulary of bytes may lack, as SmolLM2's does: control characters, and the beginnings of characters from
/// U+40000 on, which have no use but private ones.
bool is_dispensable(uint8_t byte) {
    return (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7F || byte > 0xF0;
}

/// With a token for each byte nothing is unknown, and nothing is said about what would be.
void check_bytes(const Fields& model, const TokenIds& ids, TokenizerSpec& spec) {
    bool complete = true;
    for (int value = 0; value < 256; ++value) {
        const auto byte = static_cast<uint8_t>(value);
        const std::string spelling = to_byte_level(std::string(1, static_cast<char>(byte)));
        if (!occurs_in_utf8(byte) || ids.contains(spelling)) continue;
        complete = false;
        if (!is_dispensable(byte))
            model.fail("vocab",
                       fmt::format("has no token for byte 0x{:02x} (\"{}\"); train with all 256", byte, spelling));
    }
    if (!complete) return;
    spec.unk_token.clear();
    spec.fuse_unk = false;
}

/// Tokens for all bytes, or one for what is unknown: without them text would vanish.
void check_coverage(const Fields& model, const TokenIds& ids, TokenizerSpec& spec) {
    if (byte_level_step(spec.pre_tokenizers)) {
        check_bytes(model, ids, spec);
    } else if (spec.byte_fallback) {
        for (int byte = 0; byte < 256; ++byte)
            if (!ids.contains(byte_token(static_cast<uint8_t>(byte))))
                model.fail("vocab", fmt::format("has no token \"{}\", which byte_fallback needs",
                                                byte_token(static_cast<uint8_t>(byte))));
    } else if (spec.unk_token.empty()) {
        model.fail("unk_token", "is missing; without ByteLevel or byte_fallback, characters may be unknown");
    }
    if (!spec.unk_token.empty() && !ids.contains(spec.unk_token))
        model.fail("unk_token", fmt::format("is \"{}\", which is not in the vocabulary", spec.unk_token));
}

TokenIds read_vocabulary(const Fields& model, TokenizerSpec& spec) {
    const Json& vocabulary = model.get("vocab");
    if (!vocabulary.is_object()) model.fail("vocab", "must be an object from token to id");
    TokenIds ids;
    for (const auto& [token, id] : vocabulary.items()) {
        const uint32_t number = model.as_id("vocab", id);
        if (!ids.emplace(token, number).second) model.fail("vocab", fmt::format("holds \"{}\" twice", token));
        spec.vocabulary.emplace_back(token, number);
    }
    std::sort(spec.vocabulary.begin(), spec.vocabulary.end(),
              [](const auto& a, const auto& b) { return a.second < b.second; });
    for (size_t i = 1; i < spec.vocabulary.size(); ++i)
        if (spec.vocabulary[i].second == spec.vocabulary[i - 1].second)
            model.fail("vocab", fmt::format("gives id {} to two tokens", spec.vocabulary[i].second));
    check_coverage(model, ids, spec);
    return ids;
}

std::pair<std::string, std::string> merge_parts(const Fields& model, const Json& merge, size_t rank) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
        return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    if (merge.is_string()) {
        const auto& text = merge.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos)
            return {text.substr(0, space), text.substr(space + 1)};
    }
    model.fail("merges", fmt::format("entry {} must be \"a b\" or [\"a\", \"b\"]", rank));
}

void read_merges(const Fields& model, const TokenIds& ids, TokenizerSpec& spec) {
    const Json& merges = model.list("merges");
    for (size_t rank = 0; rank < merges.size(); ++rank) {
        const auto [left, right] = merge_parts(model, merges[rank], rank);
        for (const std::string& token : {left, right, left + right})
            if (!ids.contains(token))
                model.fail("merges", fmt::format("entry {} needs \"{}\", which is not in the vocabulary", rank, token));
        spec.merges.push_back({ids.at(left), ids.at(right), ids.at(left + right)});
    }
}

AddedToken read_added_token(const Fields& fields) {
    AddedToken token;
    token.id = fields.id("id");
    token.content = fields.text("content");
    if (token.content.empty()) fields.fail("content", "must be a string that is not empty");
    token.special = fields.flag("special", false);
    token.normalized = fields.flag("normalized", !token.special);
    token.lstrip = fields.flag("lstrip", false);
    token.rstrip = fields.flag("rstrip", false);
    token.single_word = fields.flag("single_word", false);
    return token;
}

void read_added_tokens(const Fields& root, const TokenIds& ids, TokenizerSpec& spec) {
    if (!root.find("added_tokens")) return;
    std::unordered_map<uint32_t, std::string> taken;
    for (const auto& [token, id] : spec.vocabulary) taken.emplace(id, token);
    TokenIds seen;
    for (size_t i = 0; i < root.list("added_tokens").size(); ++i) {
        const Fields fields = root.child("added_tokens", i);
        AddedToken token = read_added_token(fields);
        const auto in_vocabulary = ids.find(token.content);
        if (in_vocabulary != ids.end() && in_vocabulary->second != token.id)
            fields.fail("id", fmt::format("is {}, but the vocabulary has \"{}\" as {}", token.id, token.content,
                                          in_vocabulary->second));
        if (!seen.emplace(token.content, token.id).second) fields.fail("content", "repeats an earlier added token");
        const auto [holder, free] = taken.emplace(token.id, token.content);
        if (!free && holder->second != token.content)
            fields.fail("id", fmt::format("{} belongs to \"{}\" already", token.id, holder->second));
        spec.added_tokens.push_back(std::move(token));
    }
    std::sort(spec.added_tokens.begin(), spec.added_tokens.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
}

void check_template_ids(const Fields& root, const TokenizerSpec& spec) {
    std::unordered_set<uint32_t> known;
    for (const auto& [token, id] : spec.vocabulary) known.insert(id);
    for (const AddedToken& token : spec.added_tokens) known.insert(token.id);
    for (const auto* items : {&spec.post_processor.single, &spec.post_processor.pair})
        for (const TemplateItem& item : *items)
            for (uint32_t id : item.ids)
                if (!known.contains(id))
                    root.fail("post_processor", fmt::format("adds \"{}\" as id {}, which no token has", item.name, id));
}

OrderedJson added_tokens_json(const TokenizerSpec& spec) {
    OrderedJson list = OrderedJson::array();
    for (const AddedToken& token : spec.added_tokens)
        list.push_back({{"id", token.id},
                        {"content", token.content},
                        {"single_word", token.single_word},
                        {"lstrip", token.lstrip},
                        {"rstrip", token.rstrip},
                        {"normalized", token.normalized},
                        {"special", token.special}});
    return list;
}

OrderedJson merges_json(const TokenizerSpec& spec) {
    std::unordered_map<uint32_t, const std::string*> spellings;
    for (const auto& [token, id] : spec.vocabulary) spellings.emplace(id, &token);
    const bool as_pairs = std::any_of(spec.merges.begin(), spec.merges.end(), [&](const MergeRule& rule) {
        return spellings.at(rule.joined)->find(' ') != std::string::npos;  // "a b c" could be cut in two places
    });
    OrderedJson merges = OrderedJson::array();
    for (const MergeRule& rule : spec.merges) {
        const std::string &left = *spellings.at(rule.left), &right = *spellings.at(rule.right);
        merges.push_back(as_pairs ? OrderedJson::array({left, right}) : OrderedJson(left + " " + right));
    }
    return merges;
}

/// The model's settings, without vocabulary and merges.
OrderedJson model_settings_json(const TokenizerSpec& spec) {
    if (spec.model == TokenModel::word_piece)
        return {{"type", "WordPiece"},
                {"unk_token", spec.unk_token},
                {"continuing_subword_prefix", spec.continuing_prefix},
                {"max_input_chars_per_word", spec.max_word_characters}};
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", spec.unk_token.empty() ? OrderedJson(nullptr) : OrderedJson(spec.unk_token)},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", spec.fuse_unk},
            {"byte_fallback", spec.byte_fallback},
            {"ignore_merges", spec.ignore_merges}};
}

}  // namespace

TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& origin) {
    Json json;
    try {
        json = Json::parse(text);
    } catch (const nlohmann::json::exception& e) {
        throw UserError(fmt::format("{}: not a tokenizer.json: {}", origin, e.what()));
    }
    TokenizerSpec spec;
    const Fields root(json, origin, "");
    // "truncation" and "padding" say how the package makes batches of texts; they change no text's own ids.
    read_pipeline(root, spec);
    const Fields model = root.child("model");
    read_model_settings(model, spec);
    const TokenIds ids = read_vocabulary(model, spec);
    if (spec.model == TokenModel::bpe) read_merges(model, ids, spec);
    read_added_tokens(root, ids, spec);
    check_template_ids(root, spec);
    return spec;
}

std::string to_tokenizer_json(const TokenizerSpec& spec) {
    OrderedJson model = model_settings_json(spec);
    OrderedJson vocabulary = OrderedJson::object();
    for (const auto& [token, id] : spec.vocabulary)
        vocabulary.get_ref<OrderedJson::object_t&>().emplace_back(token, id);
    model["vocab"] = std::move(vocabulary);
    if (spec.model == TokenModel::bpe) model["merges"] = merges_json(spec);
    const OrderedJson json = {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added_tokens_json(spec)},
        {"normalizer", normalizer_json(spec)},
        {"pre_tokenizer", pre_tokenizer_json(spec)},
        {"post_processor", post_processor_json(spec)},
        {"decoder", decoder_json(spec)},
        {"model", std::move(model)},
    };
    return json.dump(2) + "\n";
}

std::string pipeline_text(const TokenizerSpec& spec) {
    return OrderedJson::array({normalizer_json(spec), pre_tokenizer_json(spec), model_settings_json(spec)}).dump();
}

}  // namespace ballast::data

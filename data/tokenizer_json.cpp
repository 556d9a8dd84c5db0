// tokenizer.json, in and out.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "data/byte_level.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keeps our order, but looks keys up one by one: for writing only

/// One object of the file, with the path to it for messages.
class Fields {
  public:
    Fields(const Json& object, std::string origin, std::string path)
        : object_(object), origin_(std::move(origin)), path_(std::move(path)) {
        if (!object.is_object()) fail("", "must be an object");
    }

    [[noreturn]] void fail(const std::string& name, const std::string& what) const {
        const std::string dot = path_.empty() || name.empty() ? "" : ".";
        throw UserError(fmt::format("{}: field \"{}{}{}\" {}", origin_, path_, dot, name, what));
    }

    /// Null when the field is absent or null.
    const Json* find(const std::string& name) const {
        const auto it = object_.find(name);
        return it == object_.end() || it->is_null() ? nullptr : &*it;
    }
    const Json& get(const std::string& name) const {
        const Json* value = find(name);
        if (value == nullptr) fail(name, "is missing");
        return *value;
    }
    bool flag(const std::string& name, bool otherwise) const {
        const Json* value = find(name);
        if (value == nullptr) return otherwise;
        if (!value->is_boolean()) fail(name, "must be true or false");
        return value->get<bool>();
    }
    std::string text(const std::string& name, const std::string& otherwise = "") const {
        const Json* value = find(name);
        if (value == nullptr) return otherwise;
        if (!value->is_string()) fail(name, "must be a string");
        return value->get<std::string>();
    }
    uint32_t id(const std::string& name) const { return as_id(name, get(name)); }
    uint32_t as_id(const std::string& name, const Json& value) const {
        if (!value.is_number_unsigned() || value.get<uint64_t>() > kMaxTokenId)
            fail(name, fmt::format("must be a token id from 0 to {}", kMaxTokenId));
        return value.get<uint32_t>();
    }
    void must_be_absent(const std::string& name) const {
        if (find(name)) fail(name, "is not supported; set it to null");
    }
    void must_be_false(const std::string& name) const {
        if (flag(name, false)) fail(name, "is not supported; set it to false");
    }
    Fields child(const std::string& name) const {
        return {get(name), origin_, path_.empty() ? name : path_ + "." + name};
    }

    /// A stage of the pipeline. A "Sequence" of one stage is that stage, and of none is no stage.
    std::optional<Fields> stage(const std::string& name, const std::string& list_name) const {
        if (!find(name)) return std::nullopt;
        const Fields stage = child(name);
        if (stage.text("type") != "Sequence") return stage;
        const Json& list = stage.get(list_name);
        if (!list.is_array() || list.size() > 1) stage.fail(list_name, "must be a list of at most one stage");
        if (list.empty()) return std::nullopt;
        return Fields(list[0], origin_, fmt::format("{}.{}[0]", stage.path_, list_name));
    }

  private:
    const Json& object_;
    std::string origin_, path_;
};

using TokenIds = std::unordered_map<std::string, uint32_t>;

void read_pipeline(const Fields& root, TokenizerSpec& spec) {
    root.must_be_absent("truncation");
    root.must_be_absent("padding");
    if (const auto normalizer = root.stage("normalizer", "normalizers")) {
        if (normalizer->text("type") != "NFC") normalizer->fail("type", "must be \"NFC\", or the normalizer null");
        spec.nfc = true;
    }
    const auto splitter = root.stage("pre_tokenizer", "pretokenizers");
    if (!splitter) root.fail("pre_tokenizer", "must be \"ByteLevel\"");
    if (splitter->text("type") != "ByteLevel") splitter->fail("type", "must be \"ByteLevel\"");
    spec.add_prefix_space = splitter->flag("add_prefix_space", true);
    spec.split_words = splitter->flag("use_regex", true);
    for (const char* name : {"post_processor", "decoder"}) {
        if (!root.find(name)) continue;
        const Fields stage = root.child(name);
        if (stage.text("type") != "ByteLevel") stage.fail("type", "must be \"ByteLevel\"");
    }
}

void check_model_settings(const Fields& model) {
    if (model.text("type", "BPE") != "BPE") model.fail("type", "must be \"BPE\"");
    if (const Json* dropout = model.find("dropout"); dropout && *dropout != 0.0) model.must_be_absent("dropout");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (!model.text(name).empty()) model.fail(name, "is not supported; set it to null");
    model.must_be_false("byte_fallback");
    // unk_token and fuse_unk have no say: every byte has a token, so nothing is unknown.
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
    // 0xC0, 0xC1 and 0xF5 to 0xFF never occur in UTF-8; GPT-NeoX's file has no token for them.
    for (int byte = 0; byte < 0xF5; ++byte) {
        const std::string spelling = to_byte_level(std::string(1, static_cast<char>(byte)));
        if (byte != 0xC0 && byte != 0xC1 && !ids.contains(spelling))
            model.fail("vocab",
                       fmt::format("has no token for byte 0x{:02x} (\"{}\"); train with all 256", byte, spelling));
    }
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
    const Json& merges = model.get("merges");
    if (!merges.is_array()) model.fail("merges", "must be a list");
    for (size_t rank = 0; rank < merges.size(); ++rank) {
        const auto [left, right] = merge_parts(model, merges[rank], rank);
        for (const std::string& token : {left, right, left + right})
            if (!ids.contains(token))
                model.fail("merges", fmt::format("entry {} needs \"{}\", which is not in the vocabulary", rank, token));
        spec.merges.push_back({ids.at(left), ids.at(right), ids.at(left + right)});
    }
}

AddedToken read_added_token(const Fields& fields) {
    for (const char* name : {"lstrip", "rstrip", "single_word"}) fields.must_be_false(name);
    AddedToken token;
    token.id = fields.id("id");
    token.content = fields.text("content");
    if (token.content.empty()) fields.fail("content", "must be a string that is not empty");
    token.special = fields.flag("special", false);
    token.normalized = fields.flag("normalized", !token.special);
    return token;
}

void read_added_tokens(const Fields& root, const std::string& origin, const TokenIds& ids, TokenizerSpec& spec) {
    const Json* list = root.find("added_tokens");
    if (list == nullptr) return;
    if (!list->is_array()) root.fail("added_tokens", "must be a list");
    std::unordered_map<uint32_t, std::string> taken;
    for (const auto& [token, id] : spec.vocabulary) taken.emplace(id, token);
    TokenIds seen;
    for (size_t i = 0; i < list->size(); ++i) {
        const Fields fields((*list)[i], origin, fmt::format("added_tokens[{}]", i));
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
    read_pipeline(root, spec);
    const Fields model = root.child("model");
    check_model_settings(model);
    spec.ignore_merges = model.flag("ignore_merges", false);
    const TokenIds ids = read_vocabulary(model, spec);
    read_merges(model, ids, spec);
    read_added_tokens(root, origin, ids, spec);
    return spec;
}

std::string to_tokenizer_json(const TokenizerSpec& spec) {
    OrderedJson added = OrderedJson::array();
    for (const AddedToken& token : spec.added_tokens)
        added.push_back({{"id", token.id}, {"content", token.content}, {"single_word", false}, {"lstrip", false},
                         {"rstrip", false}, {"normalized", token.normalized}, {"special", token.special}});
    const auto byte_level = [](bool add_prefix_space, bool use_regex) {
        return OrderedJson{{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true},
                    {"use_regex", use_regex}};
    };
    OrderedJson vocabulary = OrderedJson::object();
    std::unordered_map<uint32_t, const std::string*> spellings;
    for (const auto& [token, id] : spec.vocabulary) {
        vocabulary.get_ref<OrderedJson::object_t&>().emplace_back(token, id);
        spellings.emplace(id, &token);
    }
    const bool as_pairs = std::any_of(spec.merges.begin(), spec.merges.end(), [&](const MergeRule& rule) {
        return spellings.at(rule.joined)->find(' ') != std::string::npos;  // "a b c" could be cut in two places
    });
    OrderedJson merges = OrderedJson::array();
    for (const MergeRule& rule : spec.merges) {
        const std::string &left = *spellings.at(rule.left), &right = *spellings.at(rule.right);
        merges.push_back(as_pairs ? OrderedJson::array({left, right}) : OrderedJson(left + " " + right));
    }
    const OrderedJson json = {
        {"version", "1.0"},
        {"truncation", nullptr},
        {"padding", nullptr},
        {"added_tokens", added},
        {"normalizer", spec.nfc ? OrderedJson{{"type", "NFC"}} : OrderedJson(nullptr)},
        {"pre_tokenizer", byte_level(spec.add_prefix_space, spec.split_words)},
        {"post_processor", byte_level(spec.add_prefix_space, spec.split_words)},
        {"decoder", byte_level(spec.add_prefix_space, spec.split_words)},
        {"model",
         {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", vocabulary},
          {"merges", merges}}},
    };
    return json.dump(2) + "\n";
}

}  // namespace ballast::data

// Reads the steps of tokenizer.json.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "data/foreign_pattern.h"
#include "data/tokenizer_steps_json.h"

namespace ballast::data {
namespace {

/// One kind of step: its name in the file, and how its object is read.
template <class Step>
struct Reader {
    std::string_view type;
    Step (*read)(const Fields& fields);
};

/// The steps of a stage, each by the reader of its name; a name without a reader is refused with the list of those.
template <class Step, size_t N>
std::vector<Step> read_steps(const std::vector<Fields>& list, const Reader<Step> (&readers)[N]) {
    std::string_view names[N + 1];
    for (size_t i = 0; i < N; ++i) names[i] = readers[i].type;
    names[N] = "Sequence";
    std::vector<Step> steps;
    for (const Fields& fields : list) steps.push_back(readers[fields.choice("type", names)].read(fields));
    return steps;
}

ReplaceStep read_replace(const Fields& fields) {
    const Fields pattern = fields.child("pattern");
    if (pattern.find("Regex"))
        fields.fail("pattern.Regex", "is not supported; Ballast replaces plain strings, {\"String\": …}");
    ReplaceStep step{pattern.text("String"), fields.text("content")};
    if (step.pattern.empty()) fields.fail("pattern.String", "must be a string that is not empty");
    return step;
}

MetaspaceStep read_metaspace(const Fields& fields) {
    MetaspaceStep step;
    step.replacement = fields.character("replacement", step.replacement);
    // Files from before tokenizers 0.15 say it with "add_prefix_space".
    const char* scheme = fields.flag("add_prefix_space", true) ? "always" : "never";
    step.prepend_scheme = static_cast<PrependScheme>(fields.choice("prepend_scheme", kPrependSchemeNames, scheme));
    step.split = fields.flag("split", true);
    return step;
}

constexpr Reader<Normalizer> kNormalizers[] = {
    {"NFC", [](const Fields&) -> Normalizer { return NfcStep{}; }},
    {"Prepend", [](const Fields& fields) -> Normalizer { return PrependStep{fields.text("prepend")}; }},
    {"Replace", [](const Fields& fields) -> Normalizer { return read_replace(fields); }},
    {"BertNormalizer",
     [](const Fields& fields) -> Normalizer {
         BertNormalizerStep step{fields.flag("clean_text", true),
                                 fields.flag("handle_chinese_chars", true),
                                 {},
                                 fields.flag("lowercase", true)};
         if (fields.find("strip_accents")) step.strip_accents = fields.flag("strip_accents", false);
         return step;
     }},
};

SplitBehavior read_behavior(const Fields& fields) {
    return static_cast<SplitBehavior>(fields.choice("behavior", kBehaviorNames));
}

PreTokenizer read_split(const Fields& fields) {
    const Fields pattern = fields.child("pattern");
    SplitStep step;
    step.is_regex = pattern.find("Regex") != nullptr;
    step.pattern = pattern.text(step.is_regex ? "Regex" : "String");
    if (step.pattern.empty()) fields.fail("pattern", R"(must be {"String": …} or {"Regex": …}, not empty)");
    step.behavior = read_behavior(fields);
    step.invert = fields.flag("invert", false);
    try {
        if (step.is_regex) ForeignPattern{step.pattern};
    } catch (const UserError& error) {
        fields.fail("pattern.Regex", error.what());
    }
    return step;
}

constexpr Reader<PreTokenizer> kPreTokenizers[] = {
    {"ByteLevel",
     [](const Fields& fields) -> PreTokenizer {
         return ByteLevelStep{fields.flag("add_prefix_space", true), fields.flag("use_regex", true)};
     }},
    {"Split", &read_split},
    {"Digits",
     [](const Fields& fields) -> PreTokenizer { return DigitsStep{fields.flag("individual_digits", false)}; }},
    {"Punctuation",
     [](const Fields& fields) -> PreTokenizer {
         return PunctuationStep{static_cast<SplitBehavior>(fields.choice("behavior", kBehaviorNames, "Isolated"))};
     }},
    {"Metaspace", [](const Fields& fields) -> PreTokenizer { return read_metaspace(fields); }},
    {"BertPreTokenizer", [](const Fields&) -> PreTokenizer { return BertPreTokenizerStep{}; }},
};

TokenDecoderStep read_strip(const Fields& fields) {
    if (fields.count("stop", 0) != 0) fields.fail("stop", "is not supported; set it to 0");
    return StripStep{fields.character("content", " "), fields.count("start", 0)};
}

constexpr Reader<TokenDecoderStep> kDecoders[] = {
    {"ByteLevel", [](const Fields&) -> TokenDecoderStep { return ByteLevelDecoderStep{}; }},
    {"Replace", [](const Fields& fields) -> TokenDecoderStep { return read_replace(fields); }},
    {"ByteFallback", [](const Fields&) -> TokenDecoderStep { return ByteFallbackStep{}; }},
    {"Fuse", [](const Fields&) -> TokenDecoderStep { return FuseStep{}; }},
    {"Strip", &read_strip},
    {"WordPiece",
     [](const Fields& fields) -> TokenDecoderStep {
         return WordPieceDecoderStep{fields.text("prefix", "##"), fields.flag("cleanup", true)};
     }},
    {"Metaspace", [](const Fields& fields) -> TokenDecoderStep { return read_metaspace(fields); }},
};

TemplateItem read_special(const Fields& fields, const Fields& processor) {
    TemplateItem item{TemplateItem::Kind::special, fields.text("id"), {}, fields.count("type_id", 0)};
    const bool known = processor.find("special_tokens") && processor.child("special_tokens").find(item.name);
    if (!known)
        fields.fail("id", fmt::format("is \"{}\", which is not among the template's special_tokens", item.name));
    const Fields token = processor.child("special_tokens").child(item.name);
    for (const auto& id : token.list("ids")) item.ids.push_back(token.as_id("ids", id));
    return item;
}

TemplateItem read_item(const Fields& fields, const Fields& processor) {
    if (fields.find("SpecialToken")) return read_special(fields.child("SpecialToken"), processor);
    const Fields sequence = fields.child("Sequence");
    constexpr std::string_view kTexts[] = {"A", "B"};
    const bool second = sequence.choice("id", kTexts) == 1;
    return {second ? TemplateItem::Kind::text_b : TemplateItem::Kind::text_a, "", {}, sequence.count("type_id", 0)};
}

std::vector<TemplateItem> read_items(const Fields& processor, const std::string& name, int64_t texts) {
    std::vector<TemplateItem> items;
    for (size_t i = 0; i < processor.list(name).size(); ++i)
        items.push_back(read_item(processor.child(name, i), processor));
    for (const auto kind : {TemplateItem::Kind::text_a, TemplateItem::Kind::text_b}) {
        const int64_t wanted = kind == TemplateItem::Kind::text_a || texts == 2 ? 1 : 0;
        const auto is_kind = [kind](const TemplateItem& item) { return item.kind == kind; };
        if (!items.empty() && std::count_if(items.begin(), items.end(), is_kind) != wanted)
            processor.fail(
                name, texts == 2 ? "must hold the texts A and B, each once" : "must hold the text A once, and not B");
    }
    return items;
}

/// BertProcessing: [CLS] A [SEP], and B [SEP] in segment 1.
Template read_bert_processing(const Fields& fields) {
    const auto token = [&](const std::string& name, uint32_t type_id) {
        const auto& pair = fields.list(name);
        if (pair.size() != 2 || !pair[0].is_string()) fields.fail(name, R"(must be ["token", id])");
        return TemplateItem{
            TemplateItem::Kind::special, pair[0].get<std::string>(), {fields.as_id(name, pair[1])}, type_id};
    };
    const auto text = [](TemplateItem::Kind kind, uint32_t type_id) { return TemplateItem{kind, "", {}, type_id}; };
    using Kind = TemplateItem::Kind;
    Template result{{token("cls", 0), text(Kind::text_a, 0), token("sep", 0)}, {}};
    result.pair = result.single;
    result.pair.push_back(text(Kind::text_b, 1));
    result.pair.push_back(token("sep", 1));
    return result;
}

/// ByteLevel only moves offsets. One of the others may add tokens.
void read_post_processor(const Fields& root, Template& result) {
    constexpr std::string_view kTypes[] = {"ByteLevel", "TemplateProcessing", "BertProcessing", "Sequence"};
    bool have = false;
    for (const Fields& fields : root.steps("post_processor", "processors")) {
        const size_t type = fields.choice("type", kTypes);
        if (type == 0) continue;
        if (have) fields.fail("type", "adds tokens to those of another step; Ballast has one such step");
        have = true;
        if (type == 1) result = {read_items(fields, "single", 1), read_items(fields, "pair", 2)};
        if (type == 2) result = read_bert_processing(fields);
    }
}

/// Behind ByteLevel a text is letters for bytes; only cutting makes sense there.
void check_byte_level(const Fields& root, const std::vector<PreTokenizer>& steps) {
    bool bytes = false;
    for (const PreTokenizer& step : steps) {
        const bool cuts_only = std::holds_alternative<SplitStep>(step) || std::holds_alternative<DigitsStep>(step) ||
                               std::holds_alternative<PunctuationStep>(step);
        if (bytes && !cuts_only)
            root.fail("pre_tokenizer", "has a step behind ByteLevel that is neither Split, Digits nor Punctuation");
        bytes = bytes || std::holds_alternative<ByteLevelStep>(step);
    }
}

/// Where all tokens are joined, the steps behind see text in pieces of any size.
void check_decoder(const Fields& root, const TokenizerSpec& spec) {
    bool joined = false, bytes = false;
    for (const TokenDecoderStep& step : spec.decoder) {
        bytes = bytes || std::holds_alternative<ByteLevelDecoderStep>(step);
        const bool joins = std::holds_alternative<FuseStep>(step) || std::holds_alternative<ByteLevelDecoderStep>(step);
        if (joined && !joins && !std::holds_alternative<StripStep>(step))
            root.fail("decoder", "has a step behind Fuse or ByteLevel other than Strip, which is not supported");
        joined = joined || joins;
    }
    if (bytes != (byte_level_step(spec.pre_tokenizers) != nullptr))
        root.fail("decoder", "and \"pre_tokenizer\" must both have ByteLevel, or neither");
}

}  // namespace

void read_pipeline(const Fields& root, TokenizerSpec& spec) {
    spec.normalizers = read_steps(root.steps("normalizer", "normalizers"), kNormalizers);
    spec.pre_tokenizers = read_steps(root.steps("pre_tokenizer", "pretokenizers"), kPreTokenizers);
    check_byte_level(root, spec.pre_tokenizers);
    read_post_processor(root, spec.post_processor);
    spec.decoder = read_steps(root.steps("decoder", "decoders"), kDecoders);
    if (spec.decoder.empty()) {
        if (!byte_level_step(spec.pre_tokenizers))
            root.fail("decoder", "is missing; without ByteLevel it cannot be guessed");
        spec.decoder = {ByteLevelDecoderStep{}};
    }
    check_decoder(root, spec);
}

}  // namespace ballast::data

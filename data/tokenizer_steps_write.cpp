// Writes the steps of tokenizer.json.
#include "base/error.h"
#include "data/tokenizer_steps_json.h"

namespace ballast::data {
namespace {

template <class... Visitors>
struct Overloaded : Visitors... {
    using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;  // clang deduces no aggregates before version 17

OrderedJson byte_level_json(const ByteLevelStep& step) {
    return {{"type", "ByteLevel"},
            {"add_prefix_space", step.add_prefix_space},
            {"trim_offsets", true},
            {"use_regex", step.use_regex}};
}

OrderedJson json_of(const ReplaceStep& step) {
    return {{"type", "Replace"}, {"pattern", {{"String", step.pattern}}}, {"content", step.content}};
}

OrderedJson json_of(const MetaspaceStep& step) {
    return {{"type", "Metaspace"},
            {"replacement", step.replacement},
            {"prepend_scheme", kPrependSchemeNames[static_cast<size_t>(step.prepend_scheme)]},
            {"split", step.split}};
}

std::string_view name_of(SplitBehavior behavior) { return kBehaviorNames[static_cast<size_t>(behavior)]; }

template <class Step, class Visitor>
OrderedJson stage_json(const std::vector<Step>& steps, const char* list_name, Visitor&& visitor) {
    if (steps.empty()) return nullptr;
    if (steps.size() == 1) return std::visit(visitor, steps.front());
    OrderedJson list = OrderedJson::array();
    for (const Step& step : steps) list.push_back(std::visit(visitor, step));
    return {{"type", "Sequence"}, {list_name, list}};
}

OrderedJson items_json(const std::vector<TemplateItem>& items) {
    OrderedJson list = OrderedJson::array();
    for (const TemplateItem& item : items) {
        const bool special = item.kind == TemplateItem::Kind::special;
        const std::string id = special ? item.name : item.kind == TemplateItem::Kind::text_a ? "A" : "B";
        list.push_back({{special ? "SpecialToken" : "Sequence", {{"id", id}, {"type_id", item.type_id}}}});
    }
    return list;
}

OrderedJson special_tokens_json(const TokenizerSpec& spec) {
    OrderedJson tokens = OrderedJson::object();
    const auto spelling = [&](uint32_t id) -> std::string {
        for (const AddedToken& token : spec.added_tokens)
            if (token.id == id) return token.content;
        for (const auto& [token, token_id] : spec.vocabulary)
            if (token_id == id) return token;
        require(false, "a template with an id that has no token");
        return {};
    };
    for (const auto* items : {&spec.post_processor.single, &spec.post_processor.pair}) {
        for (const TemplateItem& item : *items) {
            if (item.kind != TemplateItem::Kind::special) continue;
            OrderedJson spellings = OrderedJson::array();
            for (uint32_t id : item.ids) spellings.push_back(spelling(id));
            tokens[item.name] = {{"id", item.name}, {"ids", item.ids}, {"tokens", spellings}};
        }
    }
    return tokens;
}

}  // namespace

OrderedJson normalizer_json(const TokenizerSpec& spec) {
    return stage_json(spec.normalizers, "normalizers",
                      Overloaded{[](const NfcStep&) -> OrderedJson {
                                     return {{"type", "NFC"}};
                                 },
                                 [](const PrependStep& step) -> OrderedJson {
                                     return {{"type", "Prepend"}, {"prepend", step.prefix}};
                                 },
                                 [](const ReplaceStep& step) { return json_of(step); },
                                 [](const BertNormalizerStep& step) -> OrderedJson {
                                     return {{"type", "BertNormalizer"},
                                             {"clean_text", step.clean_text},
                                             {"handle_chinese_chars", step.handle_chinese_chars},
                                             {"strip_accents", step.strip_accents ? OrderedJson(*step.strip_accents)
                                                                                  : OrderedJson(nullptr)},
                                             {"lowercase", step.lowercase}};
                                 }});
}

OrderedJson pre_tokenizer_json(const TokenizerSpec& spec) {
    return stage_json(spec.pre_tokenizers, "pretokenizers",
                      Overloaded{[](const ByteLevelStep& step) { return byte_level_json(step); },
                                 [](const SplitStep& step) -> OrderedJson {
                                     return {{"type", "Split"},
                                             {"pattern", {{step.is_regex ? "Regex" : "String", step.pattern}}},
                                             {"behavior", name_of(step.behavior)},
                                             {"invert", step.invert}};
                                 },
                                 [](const DigitsStep& step) -> OrderedJson {
                                     return {{"type", "Digits"}, {"individual_digits", step.individual_digits}};
                                 },
                                 [](const PunctuationStep& step) -> OrderedJson {
                                     return {{"type", "Punctuation"}, {"behavior", name_of(step.behavior)}};
                                 },
                                 [](const MetaspaceStep& step) { return json_of(step); },
                                 [](const BertPreTokenizerStep&) -> OrderedJson {
                                     return {{"type", "BertPreTokenizer"}};
                                 }});
}

OrderedJson post_processor_json(const TokenizerSpec& spec) {
    const Template& processor = spec.post_processor;
    if (processor.single.empty() && processor.pair.empty()) {
        const ByteLevelStep* bytes = byte_level_step(spec.pre_tokenizers);
        return bytes ? byte_level_json(*bytes) : OrderedJson(nullptr);
    }
    return {{"type", "TemplateProcessing"},
            {"single", items_json(processor.single)},
            {"pair", items_json(processor.pair)},
            {"special_tokens", special_tokens_json(spec)}};
}

OrderedJson decoder_json(const TokenizerSpec& spec) {
    return stage_json(
        spec.decoder, "decoders",
        Overloaded{[&](const ByteLevelDecoderStep&) {
                       const ByteLevelStep* bytes = byte_level_step(spec.pre_tokenizers);
                       return byte_level_json(bytes ? *bytes : ByteLevelStep{});
                   },
                   [](const ReplaceStep& step) { return json_of(step); },
                   [](const ByteFallbackStep&) -> OrderedJson {
                       return {{"type", "ByteFallback"}};
                   },
                   [](const FuseStep&) -> OrderedJson {
                       return {{"type", "Fuse"}};
                   },
                   [](const StripStep& step) -> OrderedJson {
                       return {{"type", "Strip"}, {"content", step.content}, {"start", step.start}, {"stop", 0}};
                   },
                   [](const WordPieceDecoderStep& step) -> OrderedJson {
                       return {{"type", "WordPiece"}, {"prefix", step.prefix}, {"cleanup", step.cleanup}};
                   },
                   [](const MetaspaceStep& step) { return json_of(step); }});
}

}  // namespace ballast::data

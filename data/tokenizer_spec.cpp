#include "data/tokenizer_spec.h"

#include <algorithm>

namespace ballast::data {

const ByteLevelStep* byte_level_step(const std::vector<PreTokenizer>& steps) {
    for (const PreTokenizer& step : steps)
        if (const auto* found = std::get_if<ByteLevelStep>(&step)) return found;
    return nullptr;
}

bool adds_prefix_space(const TokenizerSpec& spec) {
    const ByteLevelStep* step = byte_level_step(spec.pre_tokenizers);
    return step != nullptr && step->add_prefix_space;
}

bool is_plain_byte_level(const TokenizerSpec& spec) {
    const auto plain = [](const AddedToken& token) { return !token.lstrip && !token.rstrip && !token.single_word; };
    const bool at_most_nfc = spec.normalizers.empty() || (spec.normalizers.size() == 1 &&
                                                          std::holds_alternative<NfcStep>(spec.normalizers.front()));
    return at_most_nfc && spec.pre_tokenizers.size() == 1 && byte_level_step(spec.pre_tokenizers) != nullptr &&
           spec.model == TokenModel::bpe && spec.unk_token.empty() &&
           std::all_of(spec.added_tokens.begin(), spec.added_tokens.end(), plain);
}

}  // namespace ballast::data

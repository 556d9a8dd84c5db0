#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "data/tokenizer_spec.h"

namespace ballast::data {
namespace {

/// What stands for an id without a token; never a token that is there already.
class Fillers {
  public:
    explicit Fillers(const TokenizerSpec& spec) {
        for (const auto& [token, id] : spec.vocabulary) taken_.insert(token);
        for (const AddedToken& token : spec.added_tokens) taken_.insert(token.content);
    }
    std::string name(uint32_t id) const {
        std::string name = fmt::format("<|unused_{}|>", id);
        while (taken_.contains(name)) name.insert(2, "_");
        return name;
    }

  private:
    std::unordered_set<std::string> taken_;
};

}  // namespace

void fill_holes(TokenizerSpec& spec) {
    const Fillers fillers(spec);
    std::unordered_set<uint32_t> in_vocabulary;
    uint32_t vocabulary_end = 0, end = 0;
    for (const auto& [token, id] : spec.vocabulary) {
        in_vocabulary.insert(id);
        vocabulary_end = std::max(vocabulary_end, id + 1);
    }
    std::unordered_map<uint32_t, std::string> added;
    for (const AddedToken& token : spec.added_tokens) {
        added.emplace(token.id, token.content);
        end = std::max(end, token.id + 1);
    }
    // Between tokens of the vocabulary only the vocabulary itself can give an id.
    for (uint32_t id = 0; id < vocabulary_end; ++id) {
        if (in_vocabulary.contains(id)) continue;
        const auto found = added.find(id);
        spec.vocabulary.emplace_back(found != added.end() ? found->second : fillers.name(id), id);
    }
    for (uint32_t id = vocabulary_end; id < end; ++id)
        if (!added.contains(id)) spec.added_tokens.push_back({id, fillers.name(id), true, false});
    std::sort(spec.vocabulary.begin(), spec.vocabulary.end(),
              [](const auto& a, const auto& b) { return a.second < b.second; });
    std::sort(spec.added_tokens.begin(), spec.added_tokens.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
}

}  // namespace ballast::data

#include "data/token_matcher.h"

#include "base/error.h"

namespace ballast::data {

void TokenMatcher::add(std::string_view content, uint32_t id) {
    require(!content.empty(), "an added token without content");
    starts_[static_cast<uint8_t>(content[0])] = true;
    uint32_t node = 0;
    for (size_t i = 0; i < content.size(); ++i) {
        Node& step = edges_[edge(node, content[i])];
        if (step.next == 0) step.next = num_nodes_++;
        if (i + 1 == content.size() && step.id == kNoId) step.id = id;
        node = step.next;
        if (i > 0) pairs_[pair(content[i - 1], content[i])] = true;
    }
}

TokenMatcher::Match TokenMatcher::find(std::string_view text, size_t from) const {
    for (size_t begin = from; begin < text.size(); ++begin) {
        if (!starts_[static_cast<uint8_t>(text[begin])]) continue;
        Match longest;
        uint32_t node = 0;
        for (size_t at = begin; at < text.size(); ++at) {
            const Node* step = edges_.find(edge(node, text[at]));
            if (step == nullptr) break;
            if (step->id != kNoId) longest = {begin, at + 1, step->id};
            node = step->next;
        }
        if (longest.found()) return longest;
    }
    return {};
}

bool TokenMatcher::holds_pair(char first, char second) const {
    return pairs_[pair(first, second)];
}

}  // namespace ballast::data

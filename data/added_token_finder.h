// Takes added tokens out of text before the pipeline sees the rest.
#pragma once

#include <string_view>
#include <unordered_map>

#include "data/token_matcher.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {

/// The added tokens that are matched at one stage, with what each wants around it.
class AddedTokenFinder {
  public:
    /// `content`: as it stands in the text of this stage, not empty. Of equal contents the first stays.
    void add(std::string_view content, const AddedToken& token);

    /// Calls on_text(stretch, begin) and on_token(id) for what `text`, valid UTF-8, consists of, in order. Matches are
    /// leftmost-longest. A token that is refused for a neighbour (single_word) still hides what it covers.
    template <class OnText, class OnToken>
    void take_apart(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
        size_t done = 0;
        for (size_t from = 0; from < text.size();) {
            const TokenMatcher::Match match = matcher_.find(text, from);
            if (!match.found()) break;
            from = match.end;
            size_t begin = match.begin, end = match.end;
            if (!wants_.empty() && !fit(text, match.id, done, begin, end)) continue;
            if (done < begin) on_text(text.substr(done, begin - done), done);
            on_token(match.id);
            done = end;
        }
        if (done < text.size()) on_text(text.substr(done), done);
    }

    /// Whether some content holds the bytes `first`, `second` next to each other. If not, no match spans a cut there.
    bool holds_pair(char first, char second) const { return matcher_.holds_pair(first, second); }

  private:
    struct Wants {
        bool lstrip, rstrip, single_word;
    };

    /// Widens the match by the white space it swallows, down to `done`; false when its neighbours rule it out.
    bool fit(std::string_view text, uint32_t id, size_t done, size_t& begin, size_t& end) const;

    TokenMatcher matcher_;
    std::unordered_map<uint32_t, Wants> wants_;  // of the few tokens that want anything
};

}  // namespace ballast::data

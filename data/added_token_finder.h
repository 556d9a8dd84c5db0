// Finds added tokens in text before the pipeline processes the rest.
#pragma once

#include <string_view>
#include <unordered_map>

#include "data/token_matcher.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {

/// The added tokens of one matching stage, with their requirements on neighbouring characters.
class AddedTokenFinder {
  public:
    /// `content`: its form in the text of this stage; not empty. Of equal contents the first one is kept.
    void add(std::string_view content, const AddedToken& token);

    /// Divides `text`, valid UTF-8, into plain stretches and added tokens. Calls on_text(stretch, begin) and
    /// on_token(id) for them, in order. Matches are leftmost-longest. A match that is refused because of a neighbour
    /// (single_word) still hides other matches inside it.
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

    /// True when some content contains the bytes `first`, `second` as neighbours. If not, no match spans a cut between
    /// them.
    bool holds_pair(char first, char second) const { return matcher_.holds_pair(first, second); }

  private:
    struct Wants {
        bool lstrip, rstrip, single_word;
    };

    /// Extends the match over the white space that it swallows, but not before `done`. False when its neighbours forbid
    /// the match.
    bool fit(std::string_view text, uint32_t id, size_t done, size_t& begin, size_t& end) const;

    TokenMatcher matcher_;
    std::unordered_map<uint32_t, Wants> wants_;  // only for tokens with requirements
};

}  // namespace ballast::data

// Windows of documents: consecutive tokens of fixed number, across the borders of documents.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "data/token_store.h"

namespace ballast::data {

/// The first token of samples: the store's begin_of_text_id, or the token that the text has there.
///   none            the windows are those of the text
///   every_window    that token replaces the first input of every window
///   every_document  that token is inserted before every document, and the windows are cut afterwards
enum class FirstToken { none, every_window, every_document };

/// The names in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 3> kFirstTokenNames{"none", "every_window", "every_document"};

/// UserError when the store has no token for `first_token`, or already has it before its documents.
void check_first_token(const TokenStore& store, FirstToken first_token);

/// A store's documents, with the tokens inserted at their beginnings.
class Documents {
  public:
    Documents(const TokenStore& store, FirstToken first_token)
        : store_(store), first_token_(first_token), added_(first_token == FirstToken::every_document ? 1 : 0) {}

    const TokenStore& store() const { return store_; }
    int64_t count() const { return store_.num_documents(); }
    int64_t num_tokens() const { return start(count()); }
    /// The number of tokens before document d in the order of the text; for d = count(), of all tokens.
    int64_t start(int64_t d) const { return store_.document_offset(d) + added_ * d; }
    int64_t length(int64_t d) const { return start(d + 1) - start(d); }
    /// The number of windows of seq_length + 1 tokens; neighbouring windows share one token.
    int64_t num_windows(int64_t seq_length) const { return (num_tokens() - 1) / seq_length; }

    /// Copies `count` tokens of one window from consecutive documents, starting at token `skip` of the first document.
    /// `next()` returns the next document. `document_starts`, unless null, receives for each token the index in the
    /// window at which its document begins (0: there or earlier).
    template <class Next>
    void read_window(int64_t skip, int64_t count, Next&& next, int32_t* out, int32_t* document_starts) const;
    /// The same in the order of the text, starting at its token `first`.
    void read_text(int64_t first, int64_t count, int32_t* out, int32_t* document_starts) const;

  private:
    const TokenStore& store_;
    FirstToken first_token_;
    int64_t added_;
};

template <class Next>
void Documents::read_window(int64_t skip, int64_t count, Next&& next, int32_t* out, int32_t* document_starts) const {
    const auto begin_id = static_cast<int32_t>(store_.info().begin_of_text_id);
    for (int64_t at = 0; at < count; skip = 0) {
        const int64_t document = next(), take = std::min(count - at, length(document) - skip);
        const int64_t own = skip < added_ && take > 0 ? 1 : 0;
        if (own > 0) out[at] = begin_id;
        store_.read(store_.document_offset(document) + skip + own - added_, take - own, out + at + own);
        if (document_starts != nullptr) std::fill_n(document_starts + at, take, static_cast<int32_t>(at));
        at += take;
    }
    if (first_token_ == FirstToken::every_window) out[0] = begin_id;
}

}  // namespace ballast::data

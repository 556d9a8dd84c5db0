// Windows of documents: so many tokens one after another, across documents' borders.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "data/token_store.h"

namespace ballast::data {

/// What samples have at their beginnings: the store's begin_of_text_id, or what the text happens to have there.
///   none            the windows are those of the text
///   every_window    the first input of every window is that token, in the place of the text's
///   every_document  that token is put before every document, and the windows are cut afterwards
enum class FirstToken { none, every_window, every_document };

/// As in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 3> kFirstTokenNames{"none", "every_window", "every_document"};

/// UserError when the store knows no token for `first_token`, or has it before its documents already.
void check_first_token(const TokenStore& store, FirstToken first_token);

/// A store's documents with what is put at their beginnings.
class Documents {
  public:
    Documents(const TokenStore& store, FirstToken first_token)
        : store_(store), first_token_(first_token), added_(first_token == FirstToken::every_document ? 1 : 0) {}

    const TokenStore& store() const { return store_; }
    int64_t count() const { return store_.num_documents(); }
    int64_t num_tokens() const { return start(count()); }
    /// Tokens before document d in the order of the text; d = count(): all of them.
    int64_t start(int64_t d) const { return store_.document_offset(d) + added_ * d; }
    int64_t length(int64_t d) const { return start(d + 1) - start(d); }
    /// Windows of seq_length + 1 tokens of which neighbours share one.
    int64_t num_windows(int64_t seq_length) const { return (num_tokens() - 1) / seq_length; }

    /// Copies `count` tokens of one window out of documents that follow each other, from the `skip`-th of the first
    /// one; `next()` is the document whose turn it is. To `document_starts`, unless it is null, for each token where in
    /// the window its document begins (0: there or before).
    template <class Next>
    void read_window(int64_t skip, int64_t count, Next&& next, int32_t* out, int32_t* document_starts) const;
    /// The same in the order of the text, from its token `first` on.
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

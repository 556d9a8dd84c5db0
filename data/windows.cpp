#include "data/windows.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ballast::data {

void check_first_token(const TokenStore& store, FirstToken first_token) {
    if (first_token == FirstToken::none) return;
    const TokenStoreInfo& info = store.info();
    const std::string_view name = kFirstTokenNames[static_cast<size_t>(first_token)];
    if (info.begin_of_text_id < 0)
        throw UserError(fmt::format(
            "{} knows no token that texts begin with, so data.first_token cannot be \"{}\"; prepare it again with a "
            "tokenizer that has one, or choose \"none\"",
            store.path(), name));
    if (first_token == FirstToken::every_document && info.begin_of_text_id == info.end_of_text_id)
        throw UserError(fmt::format(
            "{} has token {} after each document, so before the next one too; prepare it with --no-append-eod for "
            "data.first_token = \"every_document\", or choose \"none\"",
            store.path(), info.end_of_text_id));
}

void Documents::read_text(int64_t first, int64_t count, int32_t* out, int32_t* document_starts) const {
    int64_t document = 0;  // the last that starts at `first` or before: empty ones stand before the one with its token
    for (int64_t end = this->count(); end - document > 1;) {
        const int64_t middle = document + (end - document) / 2;
        (start(middle) <= first ? document : end) = middle;
    }
    read_window(
        first - start(document), count, [&] { return document++; }, out, document_starts);
}

}  // namespace ballast::data

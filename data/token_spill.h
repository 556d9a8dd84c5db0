// The tokens of all documents, with the data of each document, on disk until a store is written from them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "data/spill_file.h"

namespace ballast::data {

struct SpilledDocument {
    int64_t end = 0;  // number of tokens up to the end of this document
    int64_t text_bytes = 0;
    int64_t group = 0;          // TokenSpill::groups()
    uint64_t hash[2] = {0, 0};  // XXH3-128 of its text
};

class TokenSpill {
  public:
    /// On the same disk as `beside`.
    TokenSpill(const std::string& beside, Dtype dtype) : dtype_(dtype), tokens_(beside), documents_(beside) {}

    void append_tokens(std::span<const uint32_t> ids);
    /// Ends a document, which consists of the tokens since the last one; sets `document.end`.
    void end_document(SpilledDocument document);

    /// True when the current document has tokens.
    bool in_document() const { return num_tokens_ > last_end_; }
    int64_t num_tokens() const { return num_tokens_; }
    int64_t num_documents() const { return num_documents_; }
    Dtype dtype() const { return dtype_; }

    /// Calls visit(number, first token, document) for each, in order.
    using Visit = std::function<void(int64_t, int64_t, const SpilledDocument&)>;
    void for_each(const Visit& visit) const;
    void read_tokens(int64_t first, int64_t count, void* out) const;

  private:
    Dtype dtype_;
    SpillFile tokens_, documents_;
    int64_t num_tokens_ = 0, num_documents_ = 0, last_end_ = 0;
    std::vector<uint16_t> narrow_;
};

/// A selection of the spilled documents, and a range of the tokens of these documents laid end to end.
class SpillSelection {
  public:
    using Takes = std::function<bool(int64_t number, const SpilledDocument&)>;
    /// Tokens [begin, end) of the documents that `takes` selects; the first and the last document may be cut.
    SpillSelection(const TokenSpill& spill, Takes takes, int64_t begin = 0, int64_t end = INT64_MAX);

    Dtype dtype() const { return spill_.dtype(); }
    int64_t num_tokens() const { return num_tokens_; }
    int64_t num_documents() const { return num_documents_; }
    /// Calls visit(first token, tokens, document) for each, in order; token numbers are those of the spill.
    void for_each(const std::function<void(int64_t, int64_t, const SpilledDocument&)>& visit) const;
    /// Calls visit(ends) with the ends of documents, piece by piece; the first document begins at 0.
    void for_each_end(const std::function<void(std::span<const int64_t>)>& visit) const;
    /// Calls append(tokens, count) with all tokens, piece by piece.
    void copy_tokens(const std::function<void(const void*, int64_t)>& append) const;

  private:
    const TokenSpill& spill_;
    Takes takes_;
    int64_t begin_, end_, num_tokens_ = 0, num_documents_ = 0;
};

}  // namespace ballast::data

// Converts the tokens of an answer to the text that a reader sees: whole characters, up to the first stop string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace ballast::infer {

/// Cuts a text, which arrives in pieces, before the first stop string. Text that could be the beginning of a stop
/// string is held back until more text arrives. So text that was returned is never taken back, whatever the pieces are.
class StopStrings {
  public:
    /// UserError for an empty string, and for one that is not UTF-8.
    explicit StopStrings(std::vector<std::string> strings);

    /// The part of the text that can be shown now. The stop string that ends first ends the text; if several end
    /// together, the longest one counts. The stop string and all later text are left out.
    std::string push(std::string_view text);
    /// The text that was held back; call it when there is no more text.
    std::string finish();
    bool stopped() const { return stopped_; }

  private:
    size_t held_back() const;

    std::vector<std::string> strings_;
    std::string pending_;
    bool stopped_ = false;
};

/// The same for tokens.
class TextAnswer {
  public:
    /// Special tokens are not shown, nor are ids without a token, which a vocabulary may have. The tokenizer must
    /// outlive this object.
    TextAnswer(const data::Tokenizer& tokenizer, std::vector<std::string> stop_strings);

    /// The text that can be shown now.
    std::string push(int32_t id);
    std::string finish();
    bool stopped() const { return stop_.stopped(); }

  private:
    const data::Tokenizer& tokenizer_;
    data::StreamDecoder decoder_;
    StopStrings stop_;
};

}  // namespace ballast::infer

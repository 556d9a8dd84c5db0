// Tokens of an answer to the text that a reader sees: whole characters, up to the first stop string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace ballast::infer {

/// Cuts a text, which arrives in pieces, before the first of some strings. What could be the beginning of one is held
/// back until more is known; so what has been handed out is never taken back, wherever the pieces were cut.
class StopStrings {
  public:
    /// UserError for an empty string.
    explicit StopStrings(std::vector<std::string> strings);

    /// What of the text can be shown now. The string that ends first ends the text, of several that end together the
    /// longest; it is left out, and so is what comes after.
    std::string push(std::string_view text);
    /// What was held back; there is no more text.
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
    /// Special tokens are not shown, nor are ids that stand for no token, which a vocabulary may have. The tokenizer
    /// must outlive it.
    TextAnswer(const data::Tokenizer& tokenizer, std::vector<std::string> stop_strings);

    /// What can be shown now.
    std::string push(int32_t id);
    std::string finish();
    bool stopped() const { return stop_.stopped(); }

  private:
    const data::Tokenizer& tokenizer_;
    data::StreamDecoder decoder_;
    StopStrings stop_;
};

}  // namespace ballast::infer

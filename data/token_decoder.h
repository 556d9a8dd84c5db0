// Runs the decoder of a pipeline: tokens to text, one at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// One step at work. It hands on as soon as nothing later can change it.
class DecodingStage {
  public:
    virtual ~DecodingStage() = default;

    /// Takes a piece of a token; `begins`: its first one.
    virtual void push(std::string_view text, bool begins) = 0;
    /// There are no more.
    virtual void finish() = 0;
};

/// Decodes one sequence of tokens. What push() and finish() append to `out`, joined, is what the decoder of the file
/// makes of all tokens at once; bytes of ByteLevel are handed on as they are, UTF-8 or not.
class TokenDecoder {
  public:
    /// Writes to `out`, which must outlive it.
    TokenDecoder(const std::vector<TokenDecoderStep>& steps, std::string& out);

    /// The next token, as it is spelt in the vocabulary.
    void push(std::string_view spelling) { stages_.back()->push(spelling, true); }
    void finish() { stages_.back()->finish(); }

  private:
    std::vector<std::unique_ptr<DecodingStage>> stages_;  // the last comes first
};

/// What a token decodes to wherever it stands: letters as their bytes, a byte token as its byte, U+2581 as a space.
std::string bytes_of_token(const std::vector<TokenDecoderStep>& steps, std::string_view spelling);

}  // namespace ballast::data

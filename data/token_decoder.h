// Runs the decoder of a pipeline: tokens to text, one at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// One decoding step. It passes text on as soon as no later token can change it.
class DecodingStage {
  public:
    virtual ~DecodingStage() = default;

    /// Takes a piece of a token; `begins`: the first piece of the token.
    virtual void push(std::string_view text, bool begins) = 0;
    /// Marks the end of the tokens.
    virtual void finish() = 0;
};

/// Decodes one sequence of tokens. The texts that push() and finish() append to `out` together equal the result of the
/// file's decoder for all tokens at once. Bytes of ByteLevel are passed on unchanged, whether UTF-8 or not.
class TokenDecoder {
  public:
    /// Writes to `out`, which must outlive it.
    TokenDecoder(const std::vector<TokenDecoderStep>& steps, std::string& out);

    /// Takes the next token, in its spelling in the vocabulary.
    void push(std::string_view spelling) { stages_.back()->push(spelling, true); }
    void finish() { stages_.back()->finish(); }

  private:
    std::vector<std::unique_ptr<DecodingStage>> stages_;  // the last stage is first
};

/// The bytes of a token, independent of its neighbours: letters as their bytes, a byte token as its byte, U+2581 as a
/// space.
std::string bytes_of_token(const std::vector<TokenDecoderStep>& steps, std::string_view spelling);

}  // namespace ballast::data

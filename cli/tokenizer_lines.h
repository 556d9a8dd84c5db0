// ballast tokenizer encode --jsonl, decode --jsonl: one JSON object a line in, one out.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "data/tokenizer.h"

namespace ballast {

/// Takes what is to be written.
using WriteText = std::function<void(std::string_view)>;

/// {"text", "add_special"} to {"ids"}, for each line of the file `input`; "-" is standard input. Blank lines are passed
/// over. UserError that names file and line for a bad one; the lines before it are written.
void encode_lines(const data::Tokenizer& tokenizer, const std::string& input, data::InvalidUtf8 policy,
                  const WriteText& write);

/// {"ids", "skip_special"} to {"text"}, with U+FFFD for bytes that are no UTF-8.
void decode_lines(const data::Tokenizer& tokenizer, const std::string& input, const WriteText& write);

}  // namespace ballast

// Replaces a plain string in a text: for normalizers and decoders.
#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// Appends `text` to `out`, with each occurrence of the step's pattern, from the left, replaced by its content.
inline void append_replaced(std::string& out, std::string_view text, const ReplaceStep& step) {
    size_t done = 0;
    for (size_t found = text.find(step.pattern); found != std::string_view::npos;
         found = text.find(step.pattern, done)) {
        out.append(text.substr(done, found - done)).append(step.content);
        done = found + step.pattern.size();
    }
    out.append(text.substr(done));
}

}  // namespace ballast::data

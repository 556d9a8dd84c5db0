// Replaces a plain string in a text: for normalizers and decoders.
#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// `text` with the step's content for each of its patterns, from the left, at the end of `out`.
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

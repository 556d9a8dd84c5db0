#include "base/json_depth.h"

#include <cstddef>

namespace ballast {

bool is_deep_json(std::string_view text) {
    constexpr int kDeepest = 500;  // levels; our own files have less than ten
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '"') in_string = !in_string;
        if (in_string && c == '\\') ++i;
        if (in_string) continue;
        if (c == ']' || c == '}') --depth;
        if ((c == '[' || c == '{') && ++depth > kDeepest) return true;
    }
    return false;
}

}  // namespace ballast

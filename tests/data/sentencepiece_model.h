// A small SentencePiece tokenizer.model, made here.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace ballast::test {

// The wire format, written.
// ----------------------------------------------------------------------------------------------

inline std::string varint(uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    return out + static_cast<char>(value);
}
inline std::string integer(uint64_t field, uint64_t value) { return varint(field << 3) + varint(value); }
inline std::string bytes(uint64_t field, const std::string& value) {
    return varint(field << 3 | 2) + varint(value.size()) + value;
}
inline std::string real(uint64_t field, float value) {
    std::string out = varint(field << 3 | 5);
    out.resize(out.size() + 4);
    std::memcpy(out.data() + out.size() - 4, &value, 4);
    return out;
}

inline constexpr uint64_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;

inline std::string piece(const std::string& text, float score, uint64_t type) {
    return bytes(1, bytes(1, text) + real(2, score) + (type == kNormal ? "" : integer(3, type)));
}

inline std::string pieces() {
    std::string out = piece("<unk>", 0, kUnknown) + piece("<s>", 0, kControl) + piece("</s>", 0, kControl);
    for (int byte = 0; byte < 256; ++byte) out += piece(fmt::format("<0x{:02X}>", byte), 0, kByte);
    float score = 0;
    for (const char* text : {"\u2581a", "ab", "abc", "\u2581abc", "\u2581", "a", "b", "c", "\u00E9"})
        out += piece(text, score -= 1, kNormal);
    return out;
}
inline constexpr uint32_t kFirst = 259;  // the id of the first normal piece

inline std::string settings(uint64_t model_type = 2, uint64_t byte_fallback = 1) {
    return bytes(2, integer(3, model_type) + integer(35, byte_fallback));
}
inline std::string identity(const std::string& more = "") { return bytes(3, bytes(1, "identity") + integer(4, 0) + more); }

inline std::string good_model() { return pieces() + settings() + identity(); }

}  // namespace ballast::test

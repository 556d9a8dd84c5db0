// Reads the wire format of protocol buffers, as far as a small message needs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ballast::data {

/// Iterates over the fields of one message. Every field is checked to lie within the message.
class ProtobufReader {
  public:
    /// `bytes` must outlive the reader. `origin` names the file in messages; `first_offset` is the message's offset in
    /// the file.
    ProtobufReader(std::string_view bytes, std::string origin, size_t first_offset = 0)
        : bytes_(bytes), origin_(std::move(origin)), first_offset_(first_offset) {}

    /// Goes to the next field; false at the end. UserError, with the place in the file, for invalid data.
    bool next();

    uint64_t number() const { return number_; }

    // The value of the field. UserError when the field has another wire type.
    uint64_t integer() const;  ///< varint
    bool flag() const { return integer() != 0; }
    float real() const;              ///< 32 bits
    std::string_view bytes() const;  ///< length-delimited
    ProtobufReader message() const;  ///< length-delimited

    [[noreturn]] void fail(const std::string& what) const;

  private:
    enum class Wire : uint8_t { varint = 0, fixed64 = 1, delimited = 2, fixed32 = 5 };

    uint64_t varint();
    std::string_view take(uint64_t size);
    void must_be(Wire wire) const;

    std::string_view bytes_;
    std::string origin_;
    size_t first_offset_;
    size_t at_ = 0;
    uint64_t number_ = 0, integer_ = 0;
    Wire wire_ = Wire::varint;
    std::string_view value_;
};

}  // namespace ballast::data

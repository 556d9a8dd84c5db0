#include "data/protobuf_reader.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"

namespace ballast::data {

void ProtobufReader::fail(const std::string& what) const {
    throw UserError(fmt::format("{}: {} (before byte {}); the file is damaged or of another kind", origin_, what,
                                first_offset_ + at_));
}

uint64_t ProtobufReader::varint() {
    constexpr int kMaxBytes = 10;
    uint64_t value = 0;
    for (int i = 0; i < kMaxBytes; ++i) {
        if (at_ == bytes_.size()) fail("ends inside of a number");
        const auto byte = static_cast<uint8_t>(bytes_[at_++]);
        value |= static_cast<uint64_t>(byte & 0x7F) << 7 * i;
        if (byte < 0x80) return value;
    }
    fail("has a number of more than ten bytes");
}

std::string_view ProtobufReader::take(uint64_t size) {
    if (size > bytes_.size() - at_)
        fail(fmt::format("has a field of {} bytes where {} are left", size, bytes_.size() - at_));
    const std::string_view taken = bytes_.substr(at_, size);
    at_ += size;
    return taken;
}

bool ProtobufReader::next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = varint();
    number_ = tag >> 3;
    if (number_ == 0) fail("has a field number of 0");
    switch (tag & 7) {
        case 0: integer_ = varint(); break;
        case 1: value_ = take(8); break;
        case 2: value_ = take(varint()); break;
        case 5: value_ = take(4); break;
        default: fail(fmt::format("has a field of wire type {}", tag & 7));
    }
    wire_ = static_cast<Wire>(tag & 7);
    return true;
}

void ProtobufReader::must_be(Wire wire) const {
    if (wire_ != wire)
        fail(fmt::format("has field {} as wire type {} instead of {}", number_, static_cast<int>(wire_),
                         static_cast<int>(wire)));
}

uint64_t ProtobufReader::integer() const {
    must_be(Wire::varint);
    return integer_;
}

float ProtobufReader::real() const {
    must_be(Wire::fixed32);
    float value;
    std::memcpy(&value, value_.data(), sizeof value);  // little-endian, as the machines we run on
    return value;
}

std::string_view ProtobufReader::bytes() const {
    must_be(Wire::delimited);
    return value_;
}

ProtobufReader ProtobufReader::message() const {
    const std::string_view inside = bytes();
    return {inside, origin_, first_offset_ + static_cast<size_t>(inside.data() - bytes_.data())};
}

}  // namespace ballast::data

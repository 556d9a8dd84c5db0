#include "base/philox.h"

#include <cmath>
#include <numbers>

namespace ballast {
namespace {

uint64_t fnv1a(std::string_view text) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3ull;
    return hash;
}

}  // namespace

Philox::Philox(uint64_t seed, std::string_view name)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {
    const uint64_t hash = fnv1a(name);
    stream_ = {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

std::array<uint32_t, 4> Philox::block(uint64_t counter) const {
    constexpr uint64_t kMultiply0 = 0xD2511F53, kMultiply1 = 0xCD9E8D57;
    constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
    std::array<uint32_t, 4> c{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), stream_[0],
                              stream_[1]};
    uint32_t k0 = key_[0], k1 = key_[1];
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = kMultiply0 * c[0], p1 = kMultiply1 * c[2];
        c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
             static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
        k0 += kWeyl0;
        k1 += kWeyl1;
    }
    return c;
}

double Philox::uniform(uint64_t index) const {
    const auto words = block(index);
    return static_cast<double>((static_cast<uint64_t>(words[0]) << 21) ^ (words[1] >> 11)) * 0x1p-53;
}

double Philox::normal(uint64_t index) const {
    const auto words = block(index);
    const double u = (static_cast<double>((static_cast<uint64_t>(words[0]) << 20) ^ (words[1] >> 12)) + 0.5) * 0x1p-52;
    const double v = static_cast<double>((static_cast<uint64_t>(words[2]) << 21) ^ (words[3] >> 11)) * 0x1p-53;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace ballast

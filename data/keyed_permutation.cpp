#include "data/keyed_permutation.h"

#include <bit>

#include "base/error.h"

namespace ballast::data {
namespace {

constexpr int kRounds =
    24;  // four would do for long halves; with halves of a bit or two, 8 rounds can be told from chance
constexpr int64_t kLargest = int64_t{1} << 60;

}  // namespace

KeyedPermutation::KeyedPermutation(uint64_t seed, std::string_view name, int64_t size)
    : random_(seed, name), size_(static_cast<uint64_t>(size)) {
    require(size >= 1 && size <= kLargest, "a permutation of 1 to 2^60 elements");
    const int bits = std::bit_width(size_ - 1);
    low_bits_ = (bits + 1) / 2;
    low_mask_ = (uint64_t{1} << low_bits_) - 1;
    high_mask_ = (uint64_t{1} << (bits - low_bits_)) - 1;
}

int64_t KeyedPermutation::operator()(int64_t i) const {
    auto x = static_cast<uint64_t>(i);
    require(x < size_, "an element outside the permutation");
    do x = network(x);
    while (x >= size_);
    return static_cast<int64_t>(x);
}

uint64_t KeyedPermutation::network(uint64_t x) const {
    uint64_t low = x & low_mask_, high = x >> low_bits_;
    for (uint64_t round = 0; round < kRounds; ++round) {
        const uint64_t from = round % 2 == 0 ? high : low;  // below 2^30
        const uint64_t word = random_.block(round << 32 | from)[0];
        if (round % 2 == 0)
            low ^= word & low_mask_;
        else
            high ^= word & high_mask_;
    }
    return high << low_bits_ | low;
}

}  // namespace ballast::data

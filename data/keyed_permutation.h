// A permutation that is computed instead of stored.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/philox.h"

namespace ballast::data {

/// A permutation of [0, size) that is determined by (seed, name) and needs no memory.
///
/// A Feistel network over the fewest bits that hold every element, so over fewer than 2 · size numbers:
///   x = (high, low);  round r:  low ^= F_r(high) for even r, high ^= F_r(low) for odd r;  F_r(half) from Philox
/// A result outside [0, size) goes through the network again until it is inside; so the whole remains a permutation
/// (cycle walking). Black and Rogaway, "Ciphers with arbitrary finite domains" (2002), method 2 and, for the network,
/// section 5; Luby and Rackoff (1988) show why some rounds are as good as a random permutation.
class KeyedPermutation {
  public:
    /// `size` from 1 to 2^60.
    KeyedPermutation(uint64_t seed, std::string_view name, int64_t size);

    int64_t size() const { return static_cast<int64_t>(size_); }
    /// The image of element `i` of [0, size()). Any thread may call this.
    int64_t operator()(int64_t i) const;

  private:
    uint64_t network(uint64_t x) const;

    Philox random_;
    uint64_t size_;
    int low_bits_;
    uint64_t low_mask_, high_mask_;
};

}  // namespace ballast::data

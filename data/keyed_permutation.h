// A permutation that is computed, not stored.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/philox.h"

namespace ballast::data {

/// A permutation of [0, size) that is decided by (seed, name) and takes no memory.
///
/// A Feistel network over the fewest bits that hold every element, so over fewer than 2 · size numbers:
///   x = (high, low);  round r:  low ^= F_r(high) for even r, high ^= F_r(low) for odd r;  F_r(half) from Philox
/// What falls outside goes through the network again until it falls inside, which keeps it a permutation (cycle
/// walking). Black and Rogaway, "Ciphers with arbitrary finite domains" (2002), method 2 and, for the network, section
/// 5; Luby and Rackoff (1988) for why some rounds of it are as good as random.
class KeyedPermutation {
  public:
    /// `size` from 1 to 2^60.
    KeyedPermutation(uint64_t seed, std::string_view name, int64_t size);

    int64_t size() const { return static_cast<int64_t>(size_); }
    /// Where element `i` of [0, size()) goes. Any thread may call this.
    int64_t operator()(int64_t i) const;

  private:
    uint64_t network(uint64_t x) const;

    Philox random_;
    uint64_t size_;
    int low_bits_;
    uint64_t low_mask_, high_mask_;
};

}  // namespace ballast::data

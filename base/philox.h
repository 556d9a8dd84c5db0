// Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// Element i of a tensor depends on (seed, tensor name, i) alone, so variants of a model share every common weight.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ballast {

class Philox {
  public:
    /// Every (seed, name) has its own stream.
    Philox(uint64_t seed, std::string_view name);

    /// Four random words for this counter.
    std::array<uint32_t, 4> block(uint64_t counter) const;
    /// Uniform in [0, 1) with 53 bits.
    double uniform(uint64_t index) const;
    /// Standard normal: Box–Muller in double on the words of counter `index`.
    double normal(uint64_t index) const;

  private:
    std::array<uint32_t, 2> key_;
    std::array<uint32_t, 2> stream_;
};

}  // namespace ballast

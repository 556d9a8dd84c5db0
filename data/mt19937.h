// numpy's legacy random stream, with the parts that GPT-NeoX's data order needs.
#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <utility>

namespace ballast::data {

/// np.random.RandomState(seed): MT19937 with init_genrand; std::mt19937 gives the same stream.
class NumpyRandomState {
  public:
    explicit NumpyRandomState(uint32_t seed) : engine_(seed) {}

    uint32_t next_u32() { return static_cast<uint32_t>(engine_()); }

    /// Uniform in [0, max]: masked rejection, as in numpy's random_interval(). Draws 64 bits, high half first, only
    /// when max needs them.
    uint64_t interval(uint64_t max) {
        if (max == 0) return 0;
        const uint64_t mask = ~uint64_t{0} >> std::countl_zero(max);
        for (;;) {
            uint64_t value = next_u32();
            if (max > 0xFFFFFFFFull) value = value << 32 | next_u32();
            if ((value & mask) <= max) return value & mask;
        }
    }

    /// RandomState.shuffle() of a one-dimensional array of any element type.
    template <class T> void shuffle(std::span<T> values) {
        for (size_t i = values.size(); i-- > 1;) std::swap(values[i], values[static_cast<size_t>(interval(i))]);
    }

  private:
    std::mt19937 engine_;
};

}  // namespace ballast::data

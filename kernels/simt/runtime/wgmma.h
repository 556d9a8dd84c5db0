// What a warp has under way of its warpgroup's products. Each of the four warps computes 16 rows of D by itself.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/simt/hopper_host.h"

namespace ballast::simt {

class WgmmaQueue {
  public:
    /// Products into the same registers, of which some are not complete; the registers hold NaN until all are.
    struct Accumulator {
        static constexpr int kRows = 16;
        std::array<float*, 32> registers{};  ///< of each lane
        int n = 0;
        unsigned uses = 0;        ///< products that are not complete
        std::vector<float> rows;  ///< kRows x n
    };
    struct Product {
        WarpgroupProduct operands;  ///< as lane 0 gave them
        Accumulator* accumulator;
        std::array<const uint32_t*, 32> a_registers{};  ///< of each lane
        std::array<std::array<uint32_t, 4>, 32> a{};    ///< what they held
        Location where;
    };

    bool fenced = false;  ///< wgmma_fence() was called since the last wait
    std::vector<Product> products;
    std::vector<unsigned> groups;  ///< sizes of the committed groups, oldest first
    unsigned uncommitted = 0;
    std::vector<std::unique_ptr<Accumulator>> accumulators;
    std::vector<WarpgroupProduct> history;  ///< the four warps must have issued the same
    char done = 0;                          ///< what ThreadSanitizer hangs the order on
};

struct Warp;
/// Error when a product was never waited for, or when the warps of a group did not do the same.
void check_products(const std::vector<Warp>& warps, unsigned threads);

}  // namespace ballast::simt

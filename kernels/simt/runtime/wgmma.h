// A warp's part of its warpgroup's pending products. Each of the four warps computes 16 rows of D by itself.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/simt/hopper_host.h"

namespace ballast::simt {

class WgmmaQueue {
  public:
    /// Products into the same registers, some of them incomplete; the registers hold NaN until all are complete.
    struct Accumulator {
        static constexpr int kRows = 16;
        std::array<float*, 32> registers{};  ///< of each lane
        int n = 0;
        unsigned uses = 0;        ///< incomplete products
        std::vector<float> rows;  ///< kRows x n
    };
    struct Product {
        WarpgroupProduct operands;  ///< as lane 0 gave them
        Accumulator* accumulator;
        std::array<const uint32_t*, 32> a_registers{};  ///< of each lane
        std::array<std::array<uint32_t, 4>, 32> a{};    ///< their values
        Location where;
    };

    bool fenced = false;  ///< wgmma_fence() was called since the last wait
    std::vector<Product> products;
    std::vector<unsigned> groups;  ///< sizes of the committed groups, oldest first
    unsigned uncommitted = 0;
    std::vector<std::unique_ptr<Accumulator>> accumulators;
    std::vector<WarpgroupProduct> history;  ///< the four warps must have issued the same
    char done = 0;                          ///< ThreadSanitizer's handle for the order
};

struct Warp;
/// Error when a product was never waited for, or when the warps of a group issued different products.
void check_products(const std::vector<Warp>& warps, unsigned threads);

}  // namespace ballast::simt

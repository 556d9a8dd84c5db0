// Operations of a whole warp: every lane deposits its operands, and the last lane to arrive computes all results.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/simt/options.h"
#include "kernels/simt/runtime/wgmma.h"

namespace ballast::simt {

/// The deposits of the lanes of an operation.
class Lanes {
  public:
    Lanes(void* const* deposits, unsigned active) : deposits_(deposits), active_(active) {}
    unsigned active() const { return active_; }
    bool has(unsigned lane) const { return active_ >> lane & 1; }
    template <class Deposit>
    Deposit& at(unsigned lane) const {
        return *static_cast<Deposit*>(deposits_[lane]);
    }

  private:
    void* const* deposits_;
    unsigned active_;
};

/// Computes the results of all lanes in their deposits; its address also identifies the operation.
using Combine = void (*)(const Lanes&);

struct Warp {
    /// An operation some lanes have reached.
    struct Meeting {
        unsigned mask = 0, arrived = 0;
        Combine combine = nullptr;
        Location where;
        std::array<void*, 32> deposits{};
    };

    unsigned id = 0, alive = 0;
    std::vector<Meeting> meetings;  ///< by mask; nearly always none or one
    unsigned syncs = 0;             ///< __syncwarp()s completed
    char sync_order[2]{};           ///< ThreadSanitizer's handles for their order, alternating
    WgmmaQueue wgmma;
};

/// The calling lane deposits `deposit` and continues when all lanes of `mask` that have not exited have arrived. Error
/// when a lane is at another line or in another operation.
void meet(unsigned mask, void* deposit, Combine combine, const char* what, Location where);

inline constexpr unsigned kFullWarp = 0xffffffffu;

}  // namespace ballast::simt

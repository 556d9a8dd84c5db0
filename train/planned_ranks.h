// A communicator for planning: it has a rank and a size, but no other processes.
#pragma once

#include "base/communicator.h"
#include "base/error.h"

namespace ballast::train {

class PlannedRank : public Communicator {
  public:
    PlannedRank(int rank, int size) : rank_(rank), size_(size) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void barrier() override { refuse(); }
    void broadcast(std::span<std::byte>) override { refuse(); }
    void exchange(std::span<const OutgoingBytes>, std::span<const IncomingBytes>) override { refuse(); }
    bool any(bool) override { refuse(); }

  private:
    [[noreturn]] static void refuse() { throw InternalError("a planned rank talks to nobody"); }

    int rank_, size_;
};

}  // namespace ballast::train

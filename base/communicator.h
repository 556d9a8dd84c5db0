// The processes of one run, called ranks as in MPI: who they are, and how bytes get from one to another. Collectives on
// tensors are built on this in kernels/collectives.h.
//
// Every call below but rank() and its like is collective: all ranks make the same calls in the same order, or they wait
// for each other for ever. Any thread of a rank may make them, but never two at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace ballast {

/// Bytes for, or from, one other rank. Two ranks' messages to each other meet in their order.
struct OutgoingBytes {
    int to;
    std::span<const std::byte> bytes;
};
struct IncomingBytes {
    int from;
    std::span<std::byte> bytes;
};

/// A run of one process, and what those of several override.
class Communicator {
  public:
    virtual ~Communicator() = default;

    virtual int rank() const { return 0; }
    virtual int size() const { return 1; }
    /// Ranks on this machine, and which of them this one is.
    virtual int local_size() const { return 1; }
    virtual int local_rank() const { return 0; }
    bool is_first() const { return rank() == 0; }

    /// Returns when every rank has called it.
    virtual void barrier() {}
    /// Gives rank 0's bytes to all.
    virtual void broadcast(std::span<std::byte>) {}
    /// Sends and receives, all at once. Ranks need not have messages for all others.
    virtual void exchange(std::span<const OutgoingBytes>, std::span<const IncomingBytes>) {}
    /// Whether it is true on any rank.
    virtual bool any(bool mine) { return mine; }

    /// Ends every rank at once, this one too. Returns only where there are no others.
    virtual void abort(int /*exit_code*/) {}
};

/// The communicator of this process: MPI's when mpirun or Slurm started it, else one rank. UserError when it is one of
/// several and this build has no MPI, or when Slurm has more tasks (SLURM_NTASKS) than MPI knows of: each would train
/// the whole run by itself.
std::unique_ptr<Communicator> make_communicator();

/// Threads a rank should use: those it may run on, shared out among the machine's ranks unless they were bound apart
/// already.
int threads_per_rank(const Communicator& communicator);

/// Runs `body`, which every rank runs, and returns its exit code. An error on one rank ends all of them: the others
/// would wait for it for ever. Mistakes that every rank finds are told once, by rank 0.
int run_ranks(Communicator& communicator, const char* program, const std::function<int()>& body);

}  // namespace ballast

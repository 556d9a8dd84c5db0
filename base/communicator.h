// The processes of one run, called ranks as in MPI: their numbers, and the transport of bytes between them.
// kernels/collectives.h builds collectives on tensors from this.
//
// Every call below is collective, except rank() and the other getters: all ranks must make the same calls in the same
// order. Otherwise they wait for each other for ever. Any thread of a rank may make the calls, but never two threads at
// once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace ballast {

/// Bytes to or from one other rank. Messages between two ranks arrive in the order in which they were sent.
struct OutgoingBytes {
    int to;
    std::span<const std::byte> bytes;
};
struct IncomingBytes {
    int from;
    std::span<std::byte> bytes;
};

/// A run of one process. Runs of several processes override these functions.
class Communicator {
  public:
    virtual ~Communicator() = default;

    virtual int rank() const { return 0; }
    virtual int size() const { return 1; }
    /// The number of ranks on this machine, and this rank's index among them.
    virtual int local_size() const { return 1; }
    virtual int local_rank() const { return 0; }
    bool is_first() const { return rank() == 0; }

    /// Returns when every rank has called it.
    virtual void barrier() {}
    /// Gives rank 0's bytes to all.
    virtual void broadcast(std::span<std::byte>) {}
    /// Sends and receives all messages at once. A rank may have no message for some of the others.
    virtual void exchange(std::span<const OutgoingBytes>, std::span<const IncomingBytes>) {}
    /// True when `mine` is true on any rank.
    virtual bool any(bool mine) { return mine; }

    /// Ends every rank at once, this one included. Returns only in a run of one rank.
    virtual void abort(int /*exit_code*/) {}
};

/// The communicator of this process: MPI's when mpirun or Slurm started the process, else one rank. UserError when the
/// process is one of several and this build has no MPI, or when Slurm has more tasks (SLURM_NTASKS), or another MPI's
/// launcher has started more processes, than MPI knows of. Each process would then train the whole run by itself.
std::unique_ptr<Communicator> make_communicator();

/// The number of threads that each of `local_processes` processes of one launch on this machine should use: its share
/// of the cores that the machine, container or job has, or the cores that it is bound to where these are fewer.
int threads_per_process(int local_processes);
/// The same for a process that may use `bound_to` of the `cores` that all of them have.
int threads_per_process(int local_processes, int bound_to, int cores);

/// The number of processes that mpirun (of Open MPI, of MPICH and its kin) says it started on this machine, this one
/// included; 1 when no launcher says so. For programs that share work without a communicator. srun binds tasks apart.
int launched_on_this_machine();

/// Runs `body` on every rank and returns its exit code. An error on one rank ends all ranks, because the others would
/// wait for it for ever. A user's mistake that every rank finds is reported once, by rank 0.
int run_ranks(Communicator& communicator, const char* program, const std::function<int()>& body);

}  // namespace ballast

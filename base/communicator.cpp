#include "base/communicator.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <initializer_list>
#include <string_view>
#include <thread>

#include "base/communicator_mpi.h"
#include "base/control_group.h"
#include "base/ending.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace ballast {
namespace {

/// The largest of `least` and the whole numbers in these variables of the environment.
int most_in_environment(std::initializer_list<const char*> names, int least) {
    int most = least;
    for (const char* name : names) {
        const char* text = std::getenv(name);
        int value = least;
        if (text != nullptr) std::from_chars(text, text + std::string_view(text).size(), value);
        most = std::max(most, value);
    }
    return most;
}

/// Processes that the launcher says it started: mpirun of Open MPI, of MPICH and its kin, or Slurm. 0: none said.
int launched_processes() { return most_in_environment({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}, 0); }

}  // namespace

std::unique_ptr<Communicator> make_communicator() {
    const int launched = launched_processes();
    if (launched == 0 || (launched == 1 && !mpi_is_built())) return std::make_unique<Communicator>();
    if (!mpi_is_built())
        throw UserError(fmt::format(
            "started as one of {} processes, but this program was built without MPI, so each would train the "
            "whole run by itself; build the preset mpi (apt-get install libopenmpi-dev openmpi-bin)",
            launched));
    auto world = make_mpi_communicator();
    if (world->size() < launched) {
        const bool is_slurm = most_in_environment({"SLURM_NTASKS"}, 0) == launched;
        throw UserError(
            is_slurm ? fmt::format(
                           "Slurm has {} tasks for this job, but MPI sees {}; start them with srun --mpi=pmix or with "
                           "mpirun, or unset SLURM_NTASKS if fewer are meant",
                           launched, world->size())
                     : fmt::format(
                           "the launcher says that it started {} processes, but MPI sees {}; use the mpirun of the MPI "
                           "that this program was built with",
                           launched, world->size()));
    }
    return world;
}

int threads_per_process(int local_processes) {
    const auto machine = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    return threads_per_process(local_processes, ThreadPool::available_cores(),
                               std::min(machine, ControlGroups().cores().value_or(machine)));
}

int threads_per_process(int local_processes, int bound_to, int cores) {
    // mpirun binds more than two processes to a socket each in turn, so several share one.
    return std::min(bound_to, std::max(1, cores / local_processes));
}

int launched_on_this_machine() { return most_in_environment({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}, 1); }

int run_ranks(Communicator& communicator, const char* program, const std::function<int()>& body) {
    if (communicator.size() == 1) return body();
    try {
        return body();
    } catch (const std::exception& error) {
        Ending ending = ending_of(error);
        if (!communicator.is_first()) {
            // A mistake that every rank finds is rank 0's to tell, which ends this one meanwhile.
            std::this_thread::sleep_for(std::chrono::seconds(2));
            ending.message = fmt::format("rank {}: {}", communicator.rank(), ending.message);
        }
        report_ending(program, ending);
        communicator.abort(ending.code);
        return ending.code;
    }
}

}  // namespace ballast

#include "base/communicator.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "base/communicator_mpi.h"
#include "base/ending.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace ballast {
namespace {

/// A whole number from the environment; `otherwise` when there is none.
int environment_number(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    int value = otherwise;
    if (text != nullptr) std::from_chars(text, text + std::string_view(text).size(), value);
    return value;
}

/// Processes that the launcher says it started: mpirun of Open MPI, of MPICH and its kin, or Slurm. 0: none said.
int launched_processes() {
    int most = 0;
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"})
        most = std::max(most, environment_number(name, 0));
    return most;
}

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
    if (world->size() < launched)
        throw UserError(fmt::format(
            "Slurm has {} tasks for this job, but MPI sees {}; start them with srun --mpi=pmix or with mpirun, or unset "
            "SLURM_NTASKS if fewer are meant",
            launched, world->size()));
    return world;
}

int threads_per_rank(const Communicator& communicator) {
    const int mine = ThreadPool::available_cores(), all = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    const bool bound_apart = mine < all;
    return bound_apart ? mine : std::max(1, mine / communicator.local_size());
}

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

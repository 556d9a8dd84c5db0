// The processor, the memory, the build, interruption, and how processes share a machine.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "base/build_info.h"
#include "base/communicator.h"
#include "base/cpu_features.h"
#include "base/interrupt.h"
#include "base/thread_pool.h"
#include "tests/catch.h"

using namespace ballast;

TEST_CASE("processor: units come from the kernel's list of flags") {
    const CpuFeatures sapphire = parse_cpu_features(
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8481C\n"
        "flags\t\t: fpu fma avx avx2 avx512f avx512dq avx512bw avx512vl avx512_bf16 amx_bf16 amx_tile amx_int8\n");
    CHECK(sapphire.vendor == "GenuineIntel");
    CHECK(sapphire.model == "Intel(R) Xeon(R) Platinum 8481C");
    CHECK(sapphire.describe() == "AVX2, AVX-512, AVX512-BF16, AMX-BF16");
    CHECK(parse_cpu_features("flags : avx2 fma avx512f avx512_bf16\n").describe() == "AVX2");  // only a part of AVX-512
    CHECK_FALSE(sapphire.has_fast_bf16_dot_products());
    const std::string amd = "vendor_id : AuthenticAMD\nflags : avx512f avx512dq avx512bw avx512vl";
    CHECK(parse_cpu_features(amd + " avx512_bf16\n").has_fast_bf16_dot_products());
    CHECK_FALSE(parse_cpu_features(amd + "\n").has_fast_bf16_dot_products());
    CHECK(parse_cpu_features("flags : avx512fx avx2x\n").describe() == "none");
    CHECK(parse_cpu_features("Features\t: fp asimd bf16 sve\n").describe() == "NEON, NEON-BF16, SVE");
    CHECK(parse_cpu_features("").describe() == "none");
    CHECK(parse_cpu_features("flags").describe() == "none");
    CHECK_FALSE(cpu_features().model.empty());
}

TEST_CASE("memory: the lowest limit around the process counts") {
    const char* meminfo = "MemTotal:       1000 kB\nMemFree:         10 kB\nMemAvailable:    800 kB\n";
    CHECK(parse_memory(meminfo, {}).total == 1000 * 1024);
    CHECK(parse_memory(meminfo, {}).available == 800 * 1024);
    CHECK(parse_memory(meminfo, {{1 << 18, 1 << 17}, {1 << 30, 0}}).total == 1 << 18);
    CHECK(parse_memory(meminfo, {{1 << 18, 1 << 17}, {1 << 30, 0}}).available == 1 << 17);
    CHECK(parse_memory(meminfo, {{1000, 2000}}).available == 0);
    CHECK(parse_memory("", {}).total == 0);
    const MemorySize here = memory_size();
    CHECK(here.total > 0);
    CHECK(here.available <= here.total);
}

TEST_CASE("processes of one launch divide a machine's cores") {
    const auto said = [](const char* open_mpi, const char* mpich) {
        setenv("OMPI_COMM_WORLD_LOCAL_SIZE", open_mpi, 1);
        setenv("MPI_LOCALNRANKS", mpich, 1);
        const int processes = launched_on_this_machine();
        unsetenv("OMPI_COMM_WORLD_LOCAL_SIZE");
        unsetenv("MPI_LOCALNRANKS");
        return processes;
    };
    CHECK(launched_on_this_machine() == 1);
    CHECK(said("4", "") == 4);
    CHECK(said("", "3") == 3);
    CHECK(said("many", "-2") == 1);
    const int cores = ThreadPool::available_cores();
    CHECK(threads_per_process(1) == cores);
    CHECK(threads_per_process(1 << 20) == 1);
    CHECK(threads_per_process(4, 64, 64) == 16);
    CHECK(threads_per_process(3, 2, 2) == 1);
    CHECK(threads_per_process(2, 1, 64) == 1);    // mpirun -np 2: each bound to a core
    CHECK(threads_per_process(4, 32, 64) == 16);  // mpirun -np 4: two of them bound to each of two sockets
    CHECK(threads_per_process(4, 8, 64) == 8);    // srun --cpus-per-task=8
}

TEST_CASE("build information is filled in") {
    CHECK(build_info().version == "0.1.0");
    CHECK_FALSE(build_info().commit.empty());
    CHECK_FALSE(build_info().compiler.empty());
    CHECK(hdf5_version().starts_with("1."));
}

TEST_CASE("interrupt: the first signal is a wish, for the guard's life") {
    CHECK_FALSE(interrupted());
    {
        const InterruptGuard guard;
        CHECK_FALSE(interrupted());
        std::raise(SIGTERM);
        CHECK(interrupted());
    }
    CHECK_FALSE(interrupted());
    const InterruptGuard again;
    CHECK_FALSE(interrupted());
}

TEST_CASE("interrupt: the second signal ends the process at once") {
    const pid_t child = ::fork();
    if (child == 0) {
        const InterruptGuard guard;
        std::raise(SIGINT);
        if (!interrupted()) ::_exit(1);
        std::raise(SIGINT);
        ::_exit(2);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + SIGINT);
}

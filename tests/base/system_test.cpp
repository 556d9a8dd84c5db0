// The processor, the memory, the build, interruption, and how processes share a machine.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <thread>

#include "base/atomic_file.h"
#include "base/build_info.h"
#include "base/communicator.h"
#include "base/control_group.h"
#include "base/cpu_features.h"
#include "base/interrupt.h"
#include "base/thread_pool.h"
#include "tests/base/temporary_folder.h"
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

TEST_CASE("cores and memory: the lowest limit of the groups around the process counts") {
    const test::TemporaryFolder root;
    const auto put = [&](const std::string& file, const std::string& text) {
        make_folders(std::filesystem::path(root / file).parent_path().string());
        write_file(root / file, text);
    };
    const auto groups = [&](const std::string& membership) {
        return ControlGroups(std::istringstream(membership), root.path());
    };
    const std::string version_2 = "0::/job/step\n", version_1 = "7:cpuset:/job\n3:cpu,cpuacct:/job\n2:memory:/job\n";
    CHECK_FALSE(groups(version_2).cores());
    CHECK_FALSE(groups("").cores());
    CHECK(groups(version_2).memory().empty());

    put("job/cpuset.cpus.effective", "0-3,8,10-11\n");
    CHECK(groups(version_2).cores() == 7);
    CHECK_FALSE(groups(version_1).cores());
    put("job/cpu.max", "max 100000\n");
    CHECK(groups(version_2).cores() == 7);
    put("job/step/cpu.max", "250000 100000\n");
    CHECK(groups(version_2).cores() == 3);
    put("cpu.max", "1000 100000\n");  // of a container, which sees its own group at the top
    CHECK(groups("0::/elsewhere\n").cores() == 1);
    put("cpu.max", "0 0\n");
    CHECK_FALSE(groups("0::/elsewhere\n").cores());
    put("job/memory.max", "4096\n");
    put("job/memory.current", "1024\n");
    put("job/step/memory.max", "max\n");
    REQUIRE(groups(version_2).memory().size() == 1);
    CHECK(groups(version_2).memory()[0].limit == 4096);
    CHECK(groups(version_2).memory()[0].used == 1024);
    put("job/memory.stat", "anon 200\nfile 900\nshmem 76\ninactive_file 500\nactive_file 248\nunevictable 0\n");
    CHECK(groups(version_2).memory()[0].used == 276);  // a training set that was read is no memory in use
    put("job/memory.stat", "active_file 5000\n");      // counted a moment after the sum
    CHECK(groups(version_2).memory()[0].used == 0);

    put("cpuset/job/cpuset.cpus", "4-67\n");
    CHECK(groups(version_1).cores() == 64);
    put("cpu/cpu.cfs_quota_us", "-1\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    CHECK(groups(version_1).cores() == 64);
    put("cpu/job/cpu.cfs_quota_us", "800000\n");
    put("cpu/job/cpu.cfs_period_us", "100000\n");
    CHECK(groups(version_1).cores() == 8);
    CHECK(groups("7:cpuset:/job\n").cores() == 64);  // not "cpu"
    put("memory/memory.limit_in_bytes", "8192\n");
    REQUIRE(groups(version_1).memory().size() == 1);
    CHECK(groups(version_1).memory()[0].limit == 8192);
    put("memory/memory.usage_in_bytes", "8000\n");
    put("memory/memory.stat", "inactive_file 1\ntotal_cache 6000\ntotal_inactive_file 3000\ntotal_active_file 2000\n");
    CHECK(groups(version_1).memory()[0].used == 3000);
    put("cpuset/job/cpuset.cpus", "nonsense,,-,9-2\n");
    CHECK(groups(version_1).cores() == 8);
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
    CHECK(threads_per_process(4, 8, 8) == 2);     // mpirun -np 4 --bind-to none in a container or job of 8 cores
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

TEST_CASE("interrupt: the second signal ends the process at once, when it comes a second after the first") {
    const pid_t child = ::fork();
    if (child == 0) {
        const InterruptGuard guard;
        std::raise(SIGINT);
        if (!interrupted()) ::_exit(1);
        std::raise(SIGINT);  // still the first wish, as launchers send it
        std::raise(SIGTERM);
        std::this_thread::sleep_for(std::chrono::milliseconds(1050));
        std::raise(SIGINT);
        ::_exit(2);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + SIGINT);

    const pid_t hasty = ::fork();
    if (hasty == 0) {
        const InterruptGuard guard;
        for (const int signal : {SIGTERM, SIGTERM, SIGINT, SIGINT, SIGTERM}) std::raise(signal);
        ::_exit(interrupted() ? 0 : 1);
    }
    REQUIRE(::waitpid(hasty, &status, 0) == hasty);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

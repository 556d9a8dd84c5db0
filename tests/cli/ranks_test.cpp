// `mpirun ballast train`: real processes, where the build has an MPI.
#include <sys/stat.h>

#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

#if BALLAST_MPI

namespace {

std::string mpirun(int ranks) {
    return fmt::format("{} {} --bind-to none -np {} ", kMpiEnvironment, kMpirun, ranks);
}

const std::string kLanes = "--set train.micro_batch=1 --set train.reduction_lanes=4 ";

std::string last_checkpoint(const TinyRun& run, const std::string& name) {
    return read_file(run.file(name + "/checkpoints/step_00000012.h5"));
}

void train(const TinyRun& run, int ranks, const std::string& name, const std::string& more) {
    const Outcome outcome = ballast_with(run.train(name, kLanes + more), mpirun(ranks));
    CAPTURE(ranks, outcome.out, outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(lines_of(outcome.out) > 12);
    const size_t done = outcome.out.find("done: ");
    REQUIRE(done != std::string::npos);
    CHECK(outcome.out.find("done: ", done + 1) == std::string::npos);  // one rank speaks
}

/// What is said when two ranks end with `code`: the shell of rank 1 does `of_rank_1` and then trains; MORE is what it
/// adds to the command.
std::string error_of_two(const TinyRun& run, const std::string& of_rank_1, int code) {
    const std::string each =
        fmt::format(R"([ "$OMPI_COMM_WORLD_RANK" = 0 ] || {{ {}; }}; exec "{}" {} $MORE)", of_rank_1, kBallastPath,
                    run.train("run", kLanes + "--set train.hang_timeout_seconds=3"));
    Process process(Process::ShellCommand{"exec env " + mpirun(2) + " sh -c '" + each + "' >'" + run.file("out") +
                                          "' 2>'" + run.file("err") + "'"});
    CHECK(process.wait() == code);
    return read_file(run.file("err"));
}

std::string error_of_hang(const TinyRun& run, const std::string& of_rank_1) { return error_of_two(run, of_rank_1, 1); }

}  // namespace

TEST_CASE("mpi: checkpoints have the same bytes from 1, 2, 3 and 4 processes, ZeRO 0 and 1") {
    const TinyRun run;
    succeed(run.train("plain", kLanes));
    for (const auto& [ranks, zero] : {std::pair{1, 0}, {2, 0}, {3, 1}, {4, 1}}) {
        const std::string name = fmt::format("{}-{}", ranks, zero);
        train(run, ranks, name, fmt::format("--set train.zero={}", zero));
        CHECK(last_checkpoint(run, name) == last_checkpoint(run, "plain"));
        CHECK(run.metrics(name) == run.metrics("plain"));
    }
}

TEST_CASE("mpi: a run that was warned, and one that lost a process, go on with the same bytes") {
    const TinyRun run;
    const std::string more = "--set train.steps=1500 --set checkpoint.every=100 --set train.zero=1 ";
    const auto steps = [&](const std::string& name) {
        return fs::exists(run.file(name + "/metrics.jsonl")) ? lines_of(read_file(run.file(name + "/metrics.jsonl")))
                                                             : 0;
    };
    const auto command = [&](int ranks, const std::string& name) {
        return Process::ShellCommand{"exec env " + mpirun(ranks) + kBallast + " " +
                                     run.train(name, kLanes + more)};
    };
    {
        Process process(command(2, "warned"));
        REQUIRE(process.run_until([&] { return steps("warned") > 15; }));
        process.signal(SIGUSR1);  // mpirun hands it on to all
        CHECK(process.wait() == 0);
        CHECK(read_file(run.file("warned/status.json")).find("interrupted") != std::string::npos);
    }
    {
        Process process(command(2, "killed"));
        REQUIRE(process.run_until([&] { return steps("killed") > 15; }));
        REQUIRE(std::system(("pkill -KILL -n -f '[t]rain.*" + run.file("killed") + "'").c_str()) ==
                0);  // the newest: a rank
        CHECK(process.wait() != 0);
    }
    for (const std::string name : {"warned", "killed"}) {
        const Outcome outcome = ballast_with(run.train(name, kLanes + more + "--resume"), mpirun(1));
        CAPTURE(outcome.err);
        REQUIRE(outcome.code == 0);
    }
    const std::string last = "/checkpoints/step_00001500.h5";
    CHECK(read_file(run.file("warned" + last)) == read_file(run.file("killed" + last)));
}

TEST_CASE("mpi: a rank that was stopped is named, with its process, and all end") {
    const TinyRun run;
    for (const int stopped : {1, 0}) {
        const std::string name = fmt::format("run-{}", stopped);
        Process process(Process::ShellCommand{
            "exec env " + mpirun(3) + kBallast + " " +
            run.train(name, kLanes + "--set train.steps=100000 --set train.hang_timeout_seconds=3") + " 2>'" +
            run.file(name + ".err") + "'"});
        const std::string beat = run.file(fmt::format("{}/heartbeats/rank_{:04}.json", name, stopped));
        REQUIRE(process.run_until([&] { return run.metrics_lines(name) > 15 && fs::exists(beat); }));
        const auto pid = nlohmann::json::parse(read_file(beat)).at("pid").get<pid_t>();
        REQUIRE(::kill(pid, SIGSTOP) == 0);
        CHECK(process.wait() == 1);
        const std::string err = read_file(run.file(name + ".err"));
        CAPTURE(err);
        const size_t first = err.find("ballast: error: the run hangs: ");
        REQUIRE(first != std::string::npos);
        CHECK(err.find("the run hangs", first + 30) == std::string::npos);  // one rank speaks
        const std::string line = err.substr(first, err.find('\n', first) - first);
        CHECK_THAT(line, ContainsSubstring(fmt::format("rank {} (", stopped)));
        CHECK_THAT(line, ContainsSubstring(fmt::format("process {}) gives no sign of life", pid)));
        CHECK_THAT(line, ContainsSubstring("it is stopped"));
        // The others may have come to different collectives: an exchange takes two of three ranks.
        const int other = stopped == 1 ? 0 : 1;
        if (line.find(fmt::format("ranks {} and 2 wait in", other)) == std::string::npos) {
            CHECK_THAT(line, ContainsSubstring(fmt::format("rank {} waits in", other)));
            CHECK_THAT(line, ContainsSubstring("rank 2 waits in"));
        }
        while (::kill(pid, 0) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));  // mpirun ends it too
    }
}

TEST_CASE("mpi: a rank that hangs at the start, or was never started, ends all") {
    const TinyRun run;
    REQUIRE(::mkfifo(run.file("unread.json").c_str(), 0600) == 0);
    CHECK_THAT(error_of_hang(run, "MORE=\"--set data.tokenizer=" + run.file("unread.json") + "\""),
               ContainsSubstring("the start hangs: rank 1 (") && ContainsSubstring("has been opening the data"));
    CHECK_THAT(error_of_hang(run, "exec sleep 1000"),
               ContainsSubstring("the start hangs: a rank (") && ContainsSubstring("has been starting MPI for"));
    CHECK_FALSE(fs::exists(run.file("run")));
}

TEST_CASE("mpi: a rank that hangs when the run is over ends all, and the run is whole") {
    const TinyRun run;
    const std::string said = error_of_hang(run, "export LD_PRELOAD=\"" + kEndlessFinalizePath + "\"");
    CHECK_THAT(said, ContainsSubstring("the end hangs: rank ") && ContainsSubstring("has been leaving the device"));
    CHECK(run.json("run/status.json")["status"] == "finished");
    CHECK(fs::exists(run.file("run/checkpoints/step_00000012.h5")));
}

TEST_CASE("mpi: ranks that were started with different configs all end, and one says where they differ") {
    const TinyRun run;
    const std::string said = error_of_two(run, "MORE=\"--set train.seed=2\"", 2);
    CHECK_THAT(
        said, ContainsSubstring("ballast: error: rank 1 (") && ContainsSubstring("has [train] seed = 2 in its config"));
    CHECK(said.find("ballast: error: ") == said.rfind("ballast: error: "));
    CHECK_FALSE(fs::exists(run.file("run")));
}

TEST_CASE("mpi: a mistake is told once, and ends all processes with its exit code") {
    const TinyRun run;
    for (const auto& [arguments, part] :
         {std::pair<std::string, std::string>{"--set train.steps=0", "train.steps"},
          {"--set train.reduction_lanes=2", "3 ranks, but train.reduction_lanes = 2"},
          {"--resume --set train.global_batch=2 --set train.micro_batch=1", "passes"}}) {
        const Outcome outcome = ballast_with(run.train("run", arguments), mpirun(3));
        CAPTURE(arguments, outcome.out, outcome.err);
        CHECK(outcome.code == 2);
        CHECK_THAT(outcome.err, ContainsSubstring(part));
        const size_t first = outcome.err.find("ballast: error: ");
        REQUIRE(first != std::string::npos);
        CHECK(outcome.err.find("ballast: error: ", first + 1) == std::string::npos);
    }
    CHECK_FALSE(fs::exists(run.file("run")));
    refuse(run.train("run"), {"Slurm has 4 tasks", "MPI sees 1", "srun --mpi=pmix"},
           kMpiEnvironment + "SLURM_NTASKS=4");
    refuse(run.train("run"), {"the launcher says that it started 3 processes", "MPI sees 1", "the mpirun of the MPI"},
           kMpiEnvironment + "PMI_SIZE=3");  // MPICH's mpiexec, with a program of Open MPI
}

#else

TEST_CASE("mpi: a program without MPI refuses to be one of several processes") {
    const TinyRun run;
    refuse(run.train("run"), {"one of 2 processes", "without MPI", "preset mpi"}, "OMPI_COMM_WORLD_SIZE=2");
    refuse(run.train("run"), {"one of 3 processes"}, "SLURM_NTASKS=3");
    succeed(run.train("run", "--set train.steps=1"));
    CHECK(fs::exists(run.file("run")));
}

#endif

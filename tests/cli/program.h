// The binary as scripts run it, and a run small enough to try everything on.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

namespace ballast::test {

/// Open MPI wants to be told that root, and more ranks than cores, are meant; its quickest way between processes asks
/// for rights that containers lack.
inline const std::string kMpiEnvironment =
    "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 "
    "OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_mpi_yield_when_idle=1 "
    "HWLOC_HIDE_ERRORS=2 ";  // where /sys is not mounted, hwloc says so before every program's own line

// Of this build (program_paths.cpp); the second is quoted for a shell.
extern const std::string kBallastPath, kBallast;
// With an MPI: its launcher, quoted, and a library whose MPI_Finalize never ends.
extern const std::string kMpirun, kEndlessFinalizePath;

struct Outcome {
    int code;  // -1: killed by a signal
    std::string out, err;
};

/// Runs `ballast ARGUMENTS` through the shell. `before` may set the environment or limits.
inline Outcome ballast_with(const std::string& arguments, const std::string& before = "") {
    const TemporaryFolder folder;
    const std::string command =
        fmt::format("{} {} {} >{} 2>{}", before, kBallast, arguments, folder.file("out"), folder.file("err"));
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(folder.file("out")), read_file(folder.file("err"))};
}

inline auto lines_of(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

/// The command is to succeed; its standard output.
inline std::string succeed(const std::string& arguments) {
    CAPTURE(arguments);
    const Outcome outcome = ballast_with(arguments);
    CAPTURE(outcome.err);
    REQUIRE(outcome.code == 0);
    return outcome.out;
}

/// What remains of standard error without the lines of progress.
inline std::string without_progress(const std::string& err) {
    std::istringstream lines(err);
    std::string kept;
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("ballast: ") || line.find("  in ") == std::string::npos) kept += line + "\n";
    return kept;
}

/// The command is to end with code 2 and say one line that holds every one of `parts`.
inline void refuse(const std::string& arguments, const std::vector<std::string>& parts,
                   const std::string& before = "") {
    CAPTURE(arguments);
    const Outcome outcome = ballast_with(arguments, before);
    const std::string complaint = without_progress(outcome.err);
    CAPTURE(outcome.err);
    CHECK(outcome.code == 2);
    CHECK(complaint.starts_with("ballast: error: "));
    CHECK(lines_of(complaint) == 1);
    for (const std::string& part : parts) CHECK_THAT(complaint, Catch::Matchers::ContainsSubstring(part));
}

/// `ballast ARGUMENTS` in the background, for signals. Killed at the end of its life.
class Process {
  public:
    explicit Process(const std::string& arguments, const std::string& before = "")
        : Process(ShellCommand{before + " exec " + kBallast + " " + arguments}) {}
    /// Any command for the shell.
    struct ShellCommand {
        std::string text;
    };
    explicit Process(const ShellCommand& command) : pid_(::fork()) {
        if (pid_ != 0) return;
        const int null = ::open("/dev/null", O_WRONLY);
        ::dup2(null, STDOUT_FILENO);
        ::dup2(null, STDERR_FILENO);
        ::execl("/bin/sh", "sh", "-c", command.text.c_str(), nullptr);
        ::_exit(127);
    }
    ~Process() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        wait();
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    pid_t id() const { return pid_; }
    void signal(int number) const { ::kill(pid_, number); }
    /// The exit code; -signal when a signal ended it.
    int wait() {
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    /// False when the process ended before `condition` held.
    bool run_until(const std::function<bool()>& condition) {
        using namespace std::chrono_literals;
        for (siginfo_t ended{}; !condition(); std::this_thread::sleep_for(500us)) {
            ended.si_pid = 0;
            if (::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
                ended.si_pid == pid_)
                return condition();
        }
        return true;
    }

  private:
    pid_t pid_;
};

/// The project's own licence, tokenised, and a config of two small layers; all made by the binary.
struct TinyRun {
    TemporaryFolder folder;

    TinyRun() {
        write_file(folder.file("text.txt"), read_file(std::string(BALLAST_SOURCE_DIR) + "/LICENSE"));
        succeed(fmt::format("tokenizer train -o {} --vocab-size 300 {} --threads 1", file("tokenizer.json"),
                            file("text.txt")));
        succeed(fmt::format("data prepare -t {} -o {} {} --validation-output {} --validation-fraction 0.1 --threads 1",
                            file("tokenizer.json"), file("train.h5"), file("text.txt"), file("validation.h5")));
        write_file(file("config.toml"), config());
    }

    std::string file(const std::string& name) const { return folder.file(name); }

    std::string config() const {
        return fmt::format(
            "[model]\nvocab_size = 384\nhidden_size = 32\nnum_layers = 2\nnum_heads = 2\nmax_position_embeddings = 32\n"
            "[data]\ntrain = \"{}\"\nvalidation = \"{}\"\ntokenizer = \"{}\"\n"
            "[train]\nsequence_length = 32\nglobal_batch = 4\nmicro_batch = 2\nsteps = 12\ndtype = \"f32\"\nthreads = "
            "1\n"
            "[optimizer]\nlearning_rate = 3e-3\nmin_learning_rate = 3e-4\nwarmup = 0.1\n"
            "[checkpoint]\nevery = 5\nlog_spaced = false\nkeep_last = 2\nprotect_every = 0\n"
            "[validation]\nevery = 10\nbatches = 2\n[sample]\nevery = 0\n",
            file("train.h5"), file("validation.h5"), file("tokenizer.json"));
    }

    /// `train CONFIG --out RUN` and what follows.
    std::string train(const std::string& run, const std::string& more = "") const {
        return fmt::format("train {} --out {} {}", file("config.toml"), file(run), more);
    }

    nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(read_file(file(name))); }

    /// Lines of a run's metrics.jsonl without what a clock decides.
    std::vector<nlohmann::json> metrics(const std::string& run) const {
        std::vector<nlohmann::json> lines;
        std::istringstream text(read_file(file(run + "/metrics.jsonl")));
        for (std::string line; std::getline(text, line);) {
            lines.push_back(nlohmann::json::parse(line));
            lines.back().erase("seconds");
            lines.back().erase("tokens_per_second");
        }
        return lines;
    }

    /// How many lines metrics.jsonl has now; 0 when there is none yet.
    int64_t metrics_lines(const std::string& run) const {
        const std::string path = file(run + "/metrics.jsonl");
        return std::filesystem::exists(path) ? lines_of(read_file(path)) : 0;
    }
};

/// Temporaries of ours below `folder`: there must be none once a command has ended.
inline std::vector<std::string> leftovers(const std::string& folder) {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
        if (entry.path().filename().string().find(".tmp") != std::string::npos) found.push_back(entry.path().string());
    return found;
}

}  // namespace ballast::test

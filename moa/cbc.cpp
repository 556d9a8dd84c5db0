#include "moa/cbc.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <sstream>

#include "base/atomic_file.h"
#include "base/child_process.h"
#include "base/error.h"
#include "moa/lp_file.h"

namespace ballast::moa {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr double kLogRounding = 0.0005;  // the log's bounds have three decimals

/// Gone at the end of its life, with all that is in it.
class ScratchFolder {
  public:
    ScratchFolder() {
        std::error_code error;
        const fs::path all = fs::temp_directory_path(error);
        if (error)
            throw UserError(
                fmt::format("there is no folder for temporary files ({}); set TMPDIR to one", error.message()));
        std::string name = (all / "ballast-moa-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw_errno("make a folder", name);
        path_ = name;
    }
    ~ScratchFolder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    std::string file(const char* name) const { return (path_ / name).string(); }

  private:
    fs::path path_;
};

std::string text_or_nothing(const std::string& path) { return fs::exists(path) ? read_file(path) : ""; }

/// Until cbc ends, the time is over (cbc stops by itself a little earlier, and writes what it has) or Ctrl-C.
void await(ChildProcess& cbc, const CbcOptions& options) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.seconds + options.grace);
    while (!cbc.wait_for(100ms)) {
        stop_when_interrupted();
        if (std::chrono::steady_clock::now() < end) continue;
        cbc.signal(SIGKILL);
        cbc.wait_for(5s);
        return;
    }
}

/// Losses are whatever they are, cbc's tolerances are absolute: the optimum is to be about 1000.
double loss_scale(const Solution& known) {
    const double size = std::abs(known.found ? known.value : known.bound);
    return std::isfinite(size) && size > 0 ? 1000 / size : 1;
}

}  // namespace

std::string find_cbc() {
    const char* path = std::getenv("PATH");
    std::istringstream folders(path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path);
    for (std::string folder; std::getline(folders, folder, ':');) {
        const std::string program = (fs::path(folder.empty() ? "." : folder) / "cbc").string();
        std::error_code error;
        if (fs::is_regular_file(program, error) && ::access(program.c_str(), X_OK) == 0) return program;
    }
    return "";
}

Solution solve_cbc(const SpanProblem& problem, const Program& program, const LagrangianResult& start,
                   const CbcOptions& options) {
    Solution best = start.solution;
    if (best.infeasible || best.gap() <= options.gap) return best;
    const ScratchFolder folder;
    const double scale = loss_scale(best);
    write_file(folder.file("program.lp"), lp_text(problem, program, start.useful, scale));
    std::vector<std::string> command{options.program, folder.file("program.lp"),
                                     "-timeMode",     "elapsed",
                                     "-seconds",      fmt::format("{:.1f}", options.seconds),
                                     "-ratioGap",     fmt::format("{:g}", options.gap)};
    if (best.found) {
        write_file(folder.file("start.sol"), solution_text(problem, best.choice));
        command.insert(command.end(), {"-mipstart", folder.file("start.sol")});
    }
    command.insert(command.end(), {"-solve", "-solution", folder.file("found.sol"), "-quit"});
    ChildProcess cbc(command, folder.file("log"));
    await(cbc, options);

    const SolverAnswer answer = read_solution(problem, text_or_nothing(folder.file("found.sol")));
    if (answer.choice && feasible(problem, program, *answer.choice)) {
        const double value = loss_of(problem, program.objective, *answer.choice);
        if (!best.found || value < best.value) {
            best.found = true;
            best.value = value;
            best.choice = *answer.choice;
        }
    }
    best.infeasible = answer.infeasible && !best.found;
    // Rules that were left out lead to nothing better than the choice at the start, so the bound stays below that.
    if (const auto bound = bound_in_log(text_or_nothing(folder.file("log"))); bound && best.found)
        best.bound = std::max(best.bound, std::min((*bound - kLogRounding) / scale, best.value));
    return best;
}

}  // namespace ballast::moa

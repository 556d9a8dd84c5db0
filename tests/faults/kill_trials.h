// Work that is killed at random moments and started again, until it has been killed often enough and is done.
//
// BALLAST_FAULT_KILLS is how many kills all tests of a run take together (50), BALLAST_FAULT_SEED what their moments
// are drawn from; tests/faults/run.sh sets both.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/cli/program.h"

namespace ballast::test {

uint64_t fault_seed();
/// `share` of all kills, at least one.
int share_of_kills(double share);

/// A process's children, by /proc.
std::vector<pid_t> children_of(pid_t parent);

/// Everything below `folder` by its relative path, but for what a clock or a process id decides: locks, logs,
/// environment.json, the HTML report, and the times in JSON.
std::map<std::string, std::string> contents_of(const std::string& folder);

/// Something a user starts again with the same command after it was killed.
struct Work {
    std::string name;
    /// Arguments of ballast, started in the folder of the results, whatever an earlier start left there.
    std::string arguments;
    /// What has to hold of `folder` after any kill, given the undisturbed result.
    std::function<void(const std::string& folder, const std::map<std::string, std::string>& whole)> check_killed;
    /// Where a file ending in .tmp-<number> is work worth killing half of the time; relative to `folder`, empty:
    /// nowhere.
    std::string written_to = "";
    /// How it is killed; `any` is for choices.
    std::function<void(const Process&, std::mt19937_64& any)> kill = [](const Process& process, std::mt19937_64&) {
        process.signal(SIGKILL);
    };
    /// What runs it: nothing, or mpirun and its like.
    std::string launcher = "";
    /// Waits until nothing of it runs any more.
    std::function<void(Process&, const std::string& folder)> wait_for_end = [](Process& process, const std::string&) {
        process.wait();
    };
};

/// Every file that is whole by its name has the bytes of the undisturbed result.
void check_whole_files(const std::string& folder, const std::map<std::string, std::string>& whole);

/// Kills `work` `kills` times, each at a moment drawn evenly from the time that it takes undisturbed or while a file is
/// being written, lets it end, and holds what it left against the undisturbed result, byte by byte. Prints a line.
void run_kills(const Work& work, const TemporaryFolder& folder, int kills);

}  // namespace ballast::test

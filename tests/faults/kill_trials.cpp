#include "tests/faults/kill_trials.h"

#include <charconv>
#include <cstdio>
#include <fstream>

namespace ballast::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

uint64_t number_from_environment(const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    if (text != nullptr) std::from_chars(text, text + std::string_view(text).size(), otherwise);
    return otherwise;
}

bool is_temporary(const fs::path& path) { return path.filename().string().find(".tmp-") != std::string::npos; }

bool is_decided_by_a_clock(const fs::path& path) {
    const std::string name = path.filename();
    return name == ".lock" || name == "environment.json" || name == "report.html" || path.extension() == ".log";
}

void erase_times(nlohmann::json& json) {
    if (json.is_object()) {
        json.erase("seconds");
        json.erase("tokens_per_second");
    }
    if (json.is_structured())
        for (auto& part : json) erase_times(part);
}

/// JSON without its times; a text of lines is one JSON each.
std::string without_times(const std::string& text, bool lines) {
    std::istringstream in(text);
    std::string kept;
    for (std::string line; std::getline(in, line, lines ? '\n' : '\0');) {
        auto json = nlohmann::json::parse(line);
        erase_times(json);
        kept += json.dump() + "\n";
    }
    return kept;
}

bool has_temporary(const std::string& folder) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error))
        if (is_temporary(entry.path())) return true;
    return false;
}

bool anything_unfinished(const std::string& folder) {
    for (const auto& entry : fs::recursive_directory_iterator(folder))
        if (is_temporary(entry.path())) return true;
    return false;
}

std::string content_of(const fs::path& path) {
    const std::string bytes = read_file(path), type = path.extension();
    return type == ".json" || type == ".jsonl" ? without_times(bytes, type == ".jsonl") : bytes;
}

/// One name after another that differs, for a message that can be read.
std::string difference(const std::map<std::string, std::string>& a, const std::map<std::string, std::string>& b) {
    std::string text;
    for (const auto& [name, bytes] : a)
        if (!b.contains(name))
            text += name + " is missing; ";
        else if (b.at(name) != bytes)
            text += name + " differs; ";
    for (const auto& [name, bytes] : b)
        if (!a.contains(name)) text += name + " is too much; ";
    return text;
}

class Trials {
  public:
    Trials(const Work& work, const TemporaryFolder& folder)
        : work_(work), folder_(folder), random_(fault_seed() ^ std::hash<std::string>()(work.name)) {
        const auto begin = Clock::now();
        finish("whole");
        time_ = Clock::now() - begin;
        whole_ = contents_of(folder_.file("whole"));
    }

    void run(int kills) {
        while (killed_ < kills) {
            const std::string name = fmt::format("killed-{}", runs_++);
            fs::create_directories(folder_.file(name));
            while (killed_ < kills && kill_once(name)) {
            }
            finish(name);
            const std::string differs = difference(whole_, contents_of(folder_.file(name)));
            CHECK(differs == "");
            if (differs.empty()) ++same_;
            fs::remove_all(folder_.file(name));
        }
        fmt::print(
            "{}: killed {} times, {} of them while a file was being written; {} results of {} as undisturbed; "
            "seed {}\n",
            work_.name, killed_, unfinished_, same_, runs_, fault_seed());
        std::fflush(stdout);
    }

  private:
    Process::ShellCommand command(const std::string& name) const {
        return {fmt::format("cd '{}' && exec {} {} {} 2>{}", folder_.file(name), work_.launcher, kBallast, work_.arguments,
                            folder_.file("errors"))};
    }

    void finish(const std::string& name) {
        fs::create_directories(folder_.file(name));
        Process process(command(name));
        const int code = process.wait();
        CAPTURE(work_.name, fault_seed(), killed_, read_file(folder_.file("errors")));
        REQUIRE(code == 0);
    }

    /// False when it ended before its time.
    bool kill_once(const std::string& name) {
        const std::string folder = folder_.file(name);
        Process process(command(name));
        const auto moment = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                               time_ * std::uniform_real_distribution(0.0, 1.05)(random_));
        if (!process.run_until([&] { return Clock::now() >= moment; })) {
            work_.wait_for_end(process, folder);
            return false;
        }
        if (!work_.written_to.empty() && random_() % 2 == 0) {
            if (!process.run_until([&] { return has_temporary(folder + "/" + work_.written_to); })) {
                work_.wait_for_end(process, folder);
                return false;
            }
            std::this_thread::sleep_for(std::chrono::microseconds(random_() % 2000));
        }
        work_.kill(process, random_);
        work_.wait_for_end(process, folder);
        ++killed_;
        if (anything_unfinished(folder)) ++unfinished_;
        CAPTURE(work_.name, fault_seed(), killed_);
        work_.check_killed(folder, whole_);
        return true;
    }

    const Work& work_;
    const TemporaryFolder& folder_;
    std::mt19937_64 random_;
    std::chrono::duration<double> time_{};
    std::map<std::string, std::string> whole_;
    int killed_ = 0, unfinished_ = 0, runs_ = 0, same_ = 0;
};

}  // namespace

uint64_t fault_seed() { return number_from_environment("BALLAST_FAULT_SEED", 20261129); }

int share_of_kills(double share) {
    const auto all = static_cast<double>(number_from_environment("BALLAST_FAULT_KILLS", 50));
    return std::max(1, static_cast<int>(all * share + 0.5));
}

std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> children;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc", error)) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        std::ifstream file(entry.path() / "stat");
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        const size_t end_of_name = text.rfind(") ");  // then the state and the parent's id
        if (end_of_name == std::string::npos || text.size() < end_of_name + 5) continue;
        if (std::stoi(text.substr(end_of_name + 4)) == parent) children.push_back(std::stoi(name));
    }
    return children;
}

std::map<std::string, std::string> contents_of(const std::string& folder) {
    std::map<std::string, std::string> contents;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        const fs::path& path = entry.path();
        if (!entry.is_regular_file() || is_decided_by_a_clock(path)) continue;
        contents[path.lexically_relative(folder)] = content_of(path);
    }
    return contents;
}

void check_whole_files(const std::string& folder, const std::map<std::string, std::string>& whole) {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file() || is_temporary(entry.path())) continue;
        const std::string name = entry.path().lexically_relative(folder);
        CAPTURE(name);
        REQUIRE(whole.contains(name));
        CHECK((content_of(entry.path()) == whole.at(name)));
    }
}

void run_kills(const Work& work, const TemporaryFolder& folder, int kills) { Trials(work, folder).run(kills); }

}  // namespace ballast::test

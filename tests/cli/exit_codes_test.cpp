// docs/exit-codes.md, and what a careless parent leaves to the program.
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <thread>

#include "base/build_info.h"
#include "tests/base/refused_calls.h"
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// The exit code of a line of shell in which $B is the program; -1 when a signal ended it.
int code_of(const std::string& line) {
    const int status = std::system(("B=" + kBallast + "; " + line).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("cli: exit code 2 for paths that the file system refuses") {
    const TemporaryFolder folder;
    std::filesystem::create_symlink("circle", folder.file("circle"));
    for (const std::string& path : {folder.file("circle"), folder.file(std::string(300, 'x'))})
        for (const std::string& command :
             {"eval streaming {} --text " + path, std::string("watch {}"), "export {} " + folder.file("out"),
              std::string("report {}"), std::string("data info {}"), std::string("train {}")}) {
            const Outcome outcome = ballast_with(fmt::format(fmt::runtime(command), path));
            CAPTURE(command, path, outcome.err);
            CHECK(outcome.code == 2);
            CHECK(outcome.err.starts_with("ballast: error: "));
            CHECK(lines_of(outcome.err) == 1);
            CHECK_THAT(outcome.err, !ContainsSubstring("a fault of Ballast"));
        }
}

TEST_CASE("cli: exit code 2 whether or not anybody can read why") {
    const TemporaryFolder folder;
    CHECK(code_of("\"$B\" data info " + folder.file("none") + " 2>&-") == 2);
    CHECK(code_of("\"$B\" --nothing <&- >&- 2>&-") == 2);
    if (!std::filesystem::exists("/dev/full")) return;
    CHECK(code_of("\"$B\" data info " + folder.file("none") + " 2>/dev/full") == 2);
    CHECK(code_of("\"$B\" --help >/dev/full 2>&1") == 2);
}

TEST_CASE("cli: exit code 1 for a preparation that is interrupted, and an old file stays") {
    const TinyRun run;
    const std::string pipe = run.file("pipe"), out = run.file("new.h5");
    put_bytes(out, "old");
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    std::signal(SIGPIPE, SIG_IGN);
    std::atomic<int64_t> written{0};
    std::thread endless([&] {
        std::ofstream text(pipe);
        while (text << "words without an end " << std::flush) written += 21;
    });
    Process preparation(
        fmt::format("data prepare --threads 1 --format txt -t {} -o {} {}", run.file("tokenizer.json"), out, pipe));
    REQUIRE(preparation.run_until([&] { return written > (1 << 20); }));
    preparation.signal(SIGINT);
    CHECK(preparation.wait() == 1);
    endless.join();
    std::signal(SIGPIPE, SIG_DFL);
    CHECK(bytes_of(out) == "old");
    CHECK(leftovers(run.folder.path()).empty());
}

TEST_CASE("cli: a measurement whose reader has gone still writes its file") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    const std::string json = run.file("out.json");
    const std::string measure = fmt::format("eval streaming {} --text {} --max-tokens 60 --cache 8 --threads 1",
                                            run.file("run"), run.file("text.txt"));
    const auto into_nothing = [&](const std::string& command) {  // `sleep` holds the program back until `true` is gone
        const std::string code = run.file("code");
        return code_of(fmt::format("(sleep 0.2; \"$B\" {} 2>/dev/null; echo $? > {}) | true; exit $(cat {})", command,
                                   code, code));
    };
    CHECK(into_nothing(measure + " --json " + json) == 0);
    CHECK(run.json("out.json")["results"].size() >= 1);
    CHECK(into_nothing(measure) == 128 + SIGPIPE);  // there is nothing but the output
}

TEST_CASE("cli: closed standard streams put nothing into a run's files") {
    const TinyRun run;
    CHECK(code_of("exec \"$B\" " + run.train("run") + " <&- >&- 2>&-") == 0);
    CHECK(run.metrics("run").size() == 14);  // every line is JSON
    CHECK(run.json("run/status.json")["status"] == "finished");
    for (const auto& entry : std::filesystem::directory_iterator(run.file("run")))
        if (entry.path().filename().string().find("lock") != std::string::npos)
            CHECK(std::filesystem::file_size(entry) == 0);
}

TEST_CASE("cli: threads that the system refuses are done without") {
    if (!build_info().sanitizers.empty()) {
        WARN("skipped: sanitizers start threads and processes of their own");
        return;
    }
    const TinyRun run;
    const std::string command =
        fmt::format("exec {} tokenizer train -o {} --vocab-size 300 {} --threads 4 2>{}", kBallast,
                    run.file("new.json"), run.file("text.txt"), run.file("err"));
    const auto code = shell_with_refused_calls({SYS_clone, SYS_clone3}, EAGAIN, command);
    if (!code) {
        WARN("skipped: no system call filters here");
        return;
    }
    CHECK(*code == 0);
    CHECK_THAT(read_file(run.file("err")), ContainsSubstring("only 1 of 4 threads could be started"));
}

TEST_CASE("cli: a run trains without the threads that the system refuses: unwatched, and waiting for its saves") {
    if (!build_info().sanitizers.empty()) {
        WARN("skipped: sanitizers start threads and processes of their own");
        return;
    }
    const TinyRun run;
    succeed(run.train("plain"));
    const std::string command =
        fmt::format("exec {} {} 2>{} >{}", kBallast, run.train("run"), run.file("err"), run.file("out"));
    const auto code = shell_with_refused_calls({SYS_clone, SYS_clone3}, EAGAIN, command);
    if (!code) {
        WARN("skipped: no system call filters here");
        return;
    }
    CHECK(*code == 0);
    CHECK_THAT(read_file(run.file("err")), ContainsSubstring("the threads that watch for hangs; training goes on"));
    for (const char* step : {"05", "10", "12"})  // 5 is removed by now
        CHECK_THAT(read_file(run.file("out")), ContainsSubstring(fmt::format("step_000000{}.h5 | ", step)));
    CHECK(run.metrics("run") == run.metrics("plain"));
}

TEST_CASE("cli: settings for OpenMP programs do not bind us to one core") {
    const auto threads = [](const std::string& before) {
        const std::string out = ballast_with("info", before).out;
        const size_t at = out.find("threads ");
        return out.substr(at, out.find('\n', at) - at);
    };
    const std::string all = threads("");
    for (const char* setting : {"OMP_PROC_BIND=true", "OMP_PROC_BIND=close OMP_PLACES=cores", "GOMP_CPU_AFFINITY=0"}) {
        INFO(setting);
        CHECK(threads(setting) == all);
    }
}

TEST_CASE("cli: settings for oneDNN are named, and one that would change f32 products does not reach it") {
    for (const char* prefix : {"ONEDNN_", "DNNL_"}) {
        const std::string kept = fmt::format("{}MAX_CPU_ISA=AVX2", prefix);
        const Outcome named = ballast_with("info", kept);
        CHECK_THAT(named.out, ContainsSubstring("settings   " + kept + "\n"));
        CHECK_THAT(named.err, ContainsSubstring("oneDNN has settings in the environment: " + kept));
        CHECK(lines_of(named.err) == 1);
        const Outcome removed = ballast_with("info", fmt::format("{}DEFAULT_FPMATH_MODE=BF16", prefix));
        CHECK(removed.out.find("settings") == std::string::npos);
        CHECK(removed.err.empty());
    }
}

TEST_CASE("cli: an output that is an input, a device or a pipe is refused before any work") {
    const TinyRun run;
    const std::string text = run.file("text.txt"), tokenizer = run.file("tokenizer.json"), pipe = run.file("pipe");
    const std::string before = bytes_of(text), tokens = bytes_of(tokenizer);
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    const auto prepare = [&](const std::string& out) {
        return "data prepare -t " + tokenizer + " -o " + out + " " + text;
    };
    refuse(prepare(text), {"it is the input"});
    refuse(prepare(tokenizer), {"it is the input"});
    refuse(prepare(pipe), {"a device or a pipe"});
    refuse("tokenizer train --vocab-size 300 -o " + text + " " + text, {"it is the input"});
    refuse("info --json " + pipe, {"a device or a pipe"});
    refuse("eval streaming none --text " + text + " --json " + run.folder.path(), {"Is a directory"});
    CHECK(bytes_of(text) == before);
    CHECK(bytes_of(tokenizer) == tokens);
    CHECK(std::filesystem::is_fifo(pipe));
}

TEST_CASE("cli: data prepare reads standard input") {
    const TinyRun run;
    const std::string with = "data prepare -t " + run.file("tokenizer.json") + " -o " + run.file("new.h5") + " ";
    succeed(with + run.file("text.txt"));
    const std::string wanted = succeed("data info --verify " + run.file("new.h5"));
    const auto tokens = [](const std::string& info) { return info.substr(0, info.find('\n')); };
    for (const char* input : {"-", "/dev/stdin"}) {
        succeed(with + input + " --format txt <" + run.file("text.txt"));
        CHECK(tokens(succeed("data info --verify " + run.file("new.h5"))) == tokens(wanted));
    }
    refuse(with + "- <" + run.file("text.txt"), {"--format"});
    write_file(run.file("lines.jsonl"), "{\"text\": \"a\", \"x\": NaN}\n{\"text\": null}\n");
    refuse(with + run.file("lines.jsonl"), {"lines.jsonl:2", "--missing-text skip"});
    CHECK_THAT(succeed(with + "--missing-text skip " + run.file("lines.jsonl")),
               ContainsSubstring("1 lines without text, skipped"));
}

// The program as a user meets it: exit codes, and one line that says what is wrong.
#include "base/build_info.h"
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

const char* const kCommands[] = {"tokenizer", "data", "train", "eval", "report", "export", "info"};

}  // namespace

TEST_CASE("cli: --help and --version succeed") {
    const Outcome help = ballast_with("--help");
    CHECK(help.code == 0);
    for (const char* command : kCommands) CHECK_THAT(help.out, ContainsSubstring(command));
    CHECK(help.err.empty());
    const Outcome version = ballast_with("--version");
    CHECK(version.code == 0);
    CHECK_THAT(version.out, ContainsSubstring("ballast " + std::string(build_info().version)));
}

TEST_CASE("cli: every command explains itself with an example") {
    for (const char* command : kCommands) {
        const Outcome help = ballast_with(std::string(command) + " --help");
        CHECK(help.code == 0);
        CHECK_THAT(help.out, ContainsSubstring("xample"));
    }
}

TEST_CASE("cli: mistakes end with code 2 and one line that says what is right") {
    const std::pair<const char*, const char*> mistakes[] = {
        {"", "see ballast --help"},
        {"trian", "unknown command trian; did you mean train?; the commands are"},
        {"data prepre", "unknown command prepre; did you mean prepare?"},
        {"xyzzy", "unknown command xyzzy; the commands are"},
        {"info --jsn x", "--jsn"},
        {"info extra", "see ballast info --help"},
        {"--nothing", "see ballast --help"},
        {"train no/such/config.toml", "no/such/config.toml: No such file or directory; check the path"},
        {"info --json no/such/folder/x.json", "no/such/folder/x.json"},
    };
    for (const auto& [arguments, part] : mistakes) refuse(arguments, {part});
}

TEST_CASE("cli: info describes the machine, for people and for programs") {
    const TemporaryFolder folder;
    const Outcome outcome = ballast_with("info --json " + folder.file("info.json"));
    CHECK(outcome.code == 0);
    for (const char* part : {"version ", "commit ", "processor ", "threads ", "memory ", "HDF5 "}) {
        CHECK_THAT(outcome.out, ContainsSubstring(part));
    }
    const auto json = nlohmann::json::parse(read_file(folder.file("info.json")));
    CHECK(json["version"] == std::string(build_info().version));
    CHECK(json["backends"][0]["name"] == "cpu");
    CHECK(json["processor"]["threads"].get<int>() >= 1);
    CHECK(json["memory"]["total_bytes"].get<int64_t>() > 0);
}

TEST_CASE("cli: output that cannot be written is an error") {
    if (!std::filesystem::exists("/dev/full")) {
        WARN("skipped: no /dev/full here");
        return;
    }
    const TemporaryFolder folder;
    const int status = std::system((kBallast + " train --keys >/dev/full 2>" + folder.file("err")).c_str());
    CHECK(WEXITSTATUS(status) == 2);
    CHECK_THAT(read_file(folder.file("err")), ContainsSubstring("cannot write to standard output"));
}

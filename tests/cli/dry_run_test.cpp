// `ballast train --dry-run` and `--timeline`.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "kernels/context.h"
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("dry run: a line for each number of ranks, and nothing is trained") {
    const TinyRun run;
    const std::string bf16 = "--dry-run --set train.dtype=bf16 --set train.micro_batch=1 ";
    const Outcome outcome = ballast_with(run.train("dry", bf16 + "--ranks 1,2,4 --gpu h200 --net 400Gb/s"));
    CAPTURE(outcome.out, outcome.err);
    REQUIRE(outcome.code == 0);
    for (const char* part : {"H200", "50 GB/s", "MFU", "\n1 ", "\n2 ", "\n4 "})
        CHECK_THAT(outcome.out, ContainsSubstring(part));
    const Outcome here = ballast_with(run.train("dry", "--dry-run"));
    CHECK(here.code == 0);
    CHECK_THAT(here.out, ContainsSubstring("measured just now"));
    CHECK_FALSE(std::filesystem::exists(run.file("dry")));

    refuse(run.train("dry", bf16 + "--ranks 2 --gpu h200"), {"--net 400Gb/s"});
    refuse(run.train("dry", bf16 + "--ranks 2 --gpu h200 --net 400"), {"400Gb/s or 50GB/s"});
    refuse(run.train("dry", bf16 + "--ranks 1000 --gpu h200 --net 1GB/s"), {"1000 ranks", "passes"});
    refuse(run.train("dry", "--dry-run --gpu h200"), {"dtype=bf16"});
    refuse(run.train("dry", bf16 + "--gpu h201"), {"h200"});
    refuse(run.train("dry", "--ranks 2"), {"--dry-run"});
}

TEST_CASE("dry run: memory is the device's: a GPU does not hold the checkpoint snapshot, and has fp16") {
    const TinyRun run;
    const auto memory = [&](const std::string& more) {
        const Outcome outcome = ballast_with(run.train("dry", "--dry-run " + more));
        CAPTURE(more, outcome.out, outcome.err);
        REQUIRE(outcome.code == 0);
        std::istringstream lines(outcome.out);
        for (std::string line; std::getline(lines, line);)
            if (line.starts_with("1 ")) return line.substr(0, line.find("iB"));
        FAIL("no line of one rank");
        return std::string();
    };
    const std::string wide = "--set model.hidden_size=128 ", saves = "--set checkpoint.background=true ",
                      waits = "--set checkpoint.background=false ", bf16 = "--gpu h200 --set train.dtype=bf16 ";
    CHECK(memory(wide + bf16 + saves) == memory(wide + bf16 + waits));
    CHECK(memory(wide + saves) != memory(wide + waits));
    CHECK(memory(wide + "--gpu h200 --set train.dtype=fp16") == memory(wide + bf16));
    CHECK(memory(wide + bf16 + "--set train.threads=1") == memory(wide + bf16 + "--set train.threads=8"));
}

TEST_CASE("timeline: on a GPU it is refused before the run begins") {
    const TinyRun run;
    if (!is_built(Device::simt)) return;
    refuse(run.train("run", "--backend simt --timeline '" + run.file("timeline.json") + "'"),
           {"--timeline shows the work of a CPU", "--backend cpu"});
    CHECK_FALSE(std::filesystem::exists(run.file("run")));
}

TEST_CASE("timeline: a file that cannot be written, or that the run reads, is refused before the run begins") {
    const TinyRun run;
    const std::string before = bytes_of(run.file("train.h5"));
    for (const char* name : {"no/such/timeline.json", "text.txt/timeline.json"})
        refuse(run.train("run", "--timeline " + run.file(name)), {"cannot write " + run.file(name)});
    for (const char* name : {"train.h5", "validation.h5", "tokenizer.json", "config.toml"})
        refuse(run.train("run", "--timeline " + run.file(name)), {"it is the input " + run.file(name)});
    CHECK_FALSE(std::filesystem::exists(run.file("run")));
    CHECK(bytes_of(run.file("train.h5")) == before);
    succeed(run.train("run", "--timeline " + run.file("run/timeline.json")));  // whose folder is not there yet
    CHECK_FALSE(run.json("run/timeline.json").at("traceEvents").empty());
}

TEST_CASE("timeline: a file of events in time, for a run that communicates nothing too") {
    const TinyRun run;
    const Outcome outcome = ballast_with(run.train("run", "--timeline '" + run.file("timeline.json") + "'"));
    CAPTURE(outcome.out, outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK_THAT(outcome.out, ContainsSubstring("nothing was communicated"));
    const auto json = nlohmann::json::parse(read_file(run.file("timeline.json")));
    size_t passes = 0, layers = 0, saves = 0;
    std::set<int> named;  // threads
    for (const auto& event : json.at("traceEvents")) {
        if (event.at("ph") == "M") {
            named.insert(event.at("tid").get<int>());
            continue;
        }
        CHECK(named.contains(event.at("tid").get<int>()));
        saves += event.at("name") == "writing a checkpoint";
        CHECK(event.at("dur").get<double>() >= 0);
        const std::string name = event.at("name");
        passes += name.starts_with("pass ");
        layers += name.starts_with("backward of layer ");
    }
    CHECK(passes > 0);
    CHECK(saves > 0);
    CHECK(layers % passes == 0);
    CHECK(layers > 0);
}

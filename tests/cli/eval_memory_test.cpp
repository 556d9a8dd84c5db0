// Measurements that take more memory than there is: refused before a text is read or anything is taken.
#include "tests/cli/program.h"

using namespace ballast;
using namespace ballast::test;

namespace {

const std::string kNeeded = "are needed beside the model's weights (", kThere = "are there; ";

}  // namespace

TEST_CASE("cli: eval says which part of a measurement does not fit into memory, and which option to lower") {
    const TinyRun run;
    succeed(run.train("run", "--set train.steps=1"));
    const std::string model = " " + run.file("run") + " --threads 1 ", text = " --text " + run.file("text.txt");
    refuse("eval sinks" + model + text + " --length 1000000 --maps " + run.file("maps"),
           {kNeeded, "maps of a layer", "mean maps of all layers", kThere + "lower --length, or leave out --maps"});
    refuse("eval sinks" + model + text + " --length 1000000 --sentences",
           {"maps of a layer", kThere + "lower --length"});
    refuse("eval sinks" + model + text + " --length 8 --last-query 1073741824",
           {kNeeded + "activations", kThere + "lower --last-query"});
    refuse("eval outliers" + model + text + " --length 1073741824",
           {kNeeded + "activations of two passes", kThere + "lower --length"});
    refuse("eval sinks" + model + text + " --length 1073741825", {"--length", "1073741824"});
    CHECK_FALSE(std::filesystem::exists(run.file("maps")));
}

TEST_CASE("cli: caches that do not fit into memory are refused by every command that measures them") {
    const TinyRun run;  // without rotary tables, whose size goes by the trained positions
    succeed(run.train("run",
                      "--set train.steps=1 --set model.position=alibi --set "
                      "model.max_position_embeddings=1000000000"));
    const std::string text = " --threads 1 --cache 900000000 --text " + run.file("text.txt"), model = run.file("run");
    refuse("eval streaming " + model + text + " --sinks 0",
           {kNeeded + "activations", "keys and values", kThere + "lower --chunk or --cache"});
    refuse("eval streaming " + model + text + " --sinks 0 --method cache", {kThere + "lower --cache"});
    refuse("eval table " + model + text, {"to measure " + model, "weights", kThere + "lower --cache or --max-tokens"});
    refuse("report " + model + text + " -o " + run.file("report.html"),
           {"to measure " + model, kThere + "lower --cache or --max-tokens"});
    CHECK_FALSE(std::filesystem::exists(run.file("report.html")));
}

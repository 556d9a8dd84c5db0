#include "base/config_toml.h"

#include <array>
#include <cmath>
#include <limits>

#include "base/edit_distance.h"
#include "base/error.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using ballast::test::message_of;
using ballast::test::put_bytes;
using ballast::test::TemporaryFolder;
using Catch::Matchers::ContainsSubstring;

namespace {

enum class Colour : uint8_t { red, green, blue };
constexpr std::array<std::string_view, 3> kColourNames{"red", "green", "blue"};

struct Sample {
    int64_t hidden_size = 512;
    double rate = 1e-3;
    bool tied = false;
    std::string name = "plain";
    Colour colour = Colour::green;
    std::vector<int64_t> layers{1, 2};
    std::vector<std::string> tags;
    int64_t steps = 10;

    void visit(FieldVisitor& v) {
        v.section("model", "The network");
        v.field("hidden_size", hidden_size, "channels", {.min = 1, .max = 1 << 20});
        v.field("rate", rate, "a rate", {.min = 0});
        v.field("tied", tied, "a flag");
        v.field("name", name, "a text");
        v.section("train.loop", "The loop");
        v.field("colour", colour, kColourNames, "a choice");
        v.field("layers", layers, "whole numbers", {.min = 0});
        v.field("tags", tags, "texts");
        v.section("model", "");
        v.field("steps", steps, "in a section visited twice");
    }
};

Sample from_text(const std::string& text) {
    Sample config;
    load_toml_text(config, text, "given");
    return config;
}

Sample with(const std::vector<std::string>& overrides) {
    Sample config;
    load_toml(config, "", overrides);
    return config;
}

std::string error_of(const std::string& text) {
    return message_of([&] { from_text(text); });
}

}  // namespace

TEST_CASE("config: every type is read, absent fields keep their values") {
    const Sample config = from_text(R"(
[model]
hidden_size = 1_024
rate = 2      # a whole number will do
tied = true
name = "a \"b\" \u00e9"
[train.loop]
colour = "blue"
layers = [3, 4, 5]
tags = ["x", "y z"]
)");
    CHECK(config.hidden_size == 1024);
    CHECK(config.rate == 2.0);
    CHECK(config.tied);
    CHECK(config.name == "a \"b\" é");
    CHECK(config.colour == Colour::blue);
    CHECK(config.layers == std::vector<int64_t>{3, 4, 5});
    CHECK(config.tags == std::vector<std::string>{"x", "y z"});
    CHECK(config.steps == 10);
}

TEST_CASE("config: what is written reads back the same") {
    Sample config;
    config.rate = 0.1 + 0.2;
    config.name = "tab\t quote\" back\\slash\nline \x01\x7f é 漢";
    config.tags = {"", "]", "a\"b"};
    config.layers = {0, std::numeric_limits<int64_t>::max()};
    config.hidden_size = 1 << 20;
    config.colour = Colour::red;
    const Sample back = from_text(to_toml(config));
    CHECK(back.rate == config.rate);
    CHECK(back.name == config.name);
    CHECK(back.tags == config.tags);
    CHECK(back.layers == config.layers);
    CHECK(back.hidden_size == config.hidden_size);
    CHECK(back.colour == config.colour);
    CHECK(to_toml(back) == to_toml(config));
    for (double rate : {0.0, 1e-300, 5e-324, 1e300, 3.0, 123456789.0, 1e22, std::numeric_limits<double>::infinity()}) {
        config.rate = rate;
        CHECK(from_text(to_toml(config)).rate == rate);
    }
}

TEST_CASE("config: files extend each other, overrides come last") {
    const TemporaryFolder folder;
    put_bytes(folder.file("base.toml"), "[model]\nhidden_size = 1\nsteps = 1\nname = 'base'\n");
    std::filesystem::create_directory(folder.file("sub"));
    put_bytes(folder.file("sub/middle.toml"), "extends = '../base.toml'\n[model]\nsteps = 2\nname = 'middle'\n");
    put_bytes(folder.file("top.toml"), "extends = 'sub/middle.toml'\n[model]\nname = 'top'\n");
    Sample config;
    load_toml(config, folder.file("top.toml"), std::vector<std::string>{"train.loop.colour=red"});
    CHECK(config.hidden_size == 1);
    CHECK(config.steps == 2);
    CHECK(config.name == "top");
    CHECK(config.colour == Colour::red);
    load_toml(config, folder.file("top.toml"), std::vector<std::string>{"model.steps=7", "model.steps=8"});
    CHECK(config.steps == 8);
}

TEST_CASE("config: a circle of files, a missing one") {
    const TemporaryFolder folder;
    put_bytes(folder.file("a.toml"), "extends = 'b.toml'\n");
    put_bytes(folder.file("b.toml"), "extends = './a.toml'\n");
    put_bytes(folder.file("self.toml"), "extends = 'self.toml'\n");
    put_bytes(folder.file("lost.toml"), "extends = 'nothing.toml'\n");
    put_bytes(folder.file("number.toml"), "\nextends = 3\n");
    Sample config;
    const auto error = [&](const char* name) { return message_of([&] { load_toml(config, folder.file(name)); }); };
    CHECK_THAT(error("a.toml"), ContainsSubstring("extends itself by way of") && ContainsSubstring("b.toml"));
    CHECK_THAT(error("self.toml"), ContainsSubstring("extends itself"));
    CHECK_THAT(error("lost.toml"), ContainsSubstring("nothing.toml: No such file"));
    CHECK_THAT(error("number.toml"), ContainsSubstring("number.toml:2: extends must name a file"));
    CHECK_THAT(error("absent.toml"), ContainsSubstring("absent.toml: No such file"));
}

TEST_CASE("config: overrides are TOML values or bare words") {
    CHECK(with({"model.hidden_size=64"}).hidden_size == 64);
    CHECK(with({"model.rate=1e-4"}).rate == 1e-4);
    CHECK(with({"model.hidden_size=1e6"}).hidden_size == 1000000);
    CHECK(with({"model.hidden_size=12.0"}).hidden_size == 12);
    CHECK(with({"model.tied=true"}).tied);
    CHECK(with({"model.name=some/path.txt"}).name == "some/path.txt");
    CHECK(with({"model.name=12"}).name == "12");
    CHECK(with({"model.name=true"}).name == "true");
    CHECK(with({"model.name="}).name == "");
    CHECK(with({"model.name=\"quoted\""}).name == "quoted");
    CHECK(with({"model.name=a=b"}).name == "a=b");
    CHECK(with({"model.name=1\nw=2"}).name == "1\nw=2");
    CHECK(with({"train.loop.layers=[7]"}).layers == std::vector<int64_t>{7});
    CHECK(with({"train.loop.layers=7"}).layers == std::vector<int64_t>{7});
    CHECK(with({"train.loop.colour=blue"}).colour == Colour::blue);
    CHECK_THAT(message_of([] { with({"model.name"}); }), ContainsSubstring("write it as section.key=value"));
    CHECK_THAT(message_of([] { with({"model.hiden_size=1"}); }),
               ContainsSubstring("--set model.hiden_size=1: unknown key") &&
                   ContainsSubstring("did you mean model.hidden_size?"));
    CHECK_THAT(message_of([] { with({"model.hidden_size=1.5e0"}); }), ContainsSubstring("must be a whole number"));
    CHECK_THAT(message_of([] { with({"model.hidden_size=1e300"}); }), ContainsSubstring("must be a whole number"));
    CHECK_THAT(message_of([] { with({"model.hidden_size=nan"}); }), ContainsSubstring("must be a whole number"));
    CHECK_THAT(message_of([] { with({"model.hidden_size=many"}); }), ContainsSubstring("must be a whole number"));
}

TEST_CASE("config: mistakes are named with file, line, key and what would be right") {
    CHECK(error_of("[model]\n\nhiden_size = 1") ==
          "given:3: unknown key model.hiden_size; did you mean model.hidden_size?");
    CHECK(error_of("hidden_size = 1") == "given:1: unknown key hidden_size; did you mean model.hidden_size?");
    CHECK(error_of("[train]\ncolour = 'red'") == "given:2: unknown key train.colour; did you mean train.loop.colour?");
    CHECK(error_of("[model]\nzzzzzzzz = 1") == "given:2: unknown key model.zzzzzzzz");
    CHECK(error_of("[modle]") == "given:1: unknown section [modle]; did you mean model?");
    CHECK(error_of("[model]\nhidden_size = 0") == "given:2: model.hidden_size = 0 must be from 1 to 1048576");
    CHECK(error_of("[model]\nhidden_size = 1.5") == "given:2: model.hidden_size = 1.5 must be a whole number");
    CHECK(error_of("[model]\nhidden_size = 'x'") == "given:2: model.hidden_size = 'x' must be a whole number");
    CHECK(error_of("[model]\nrate = -1e-9") == "given:2: model.rate = -1e-09 must be at least 0");
    const std::pair<const char*, const char*> mistakes[] = {
        {"[model]\nrate = nan", "must be at least 0"},
        {"[model]\nrate = '1'", "must be a number"},
        {"[model]\ntied = 1", "must be true or false"},
        {"[model]\nname = 1", "must be text in quotes"},
        {"[train.loop]\ncolour = 'bleu'", "one of red, green, blue; did you mean blue?"},
        {"[train.loop]\nlayers = [1, 'a']", "must be a whole number"},
        {"[train.loop]\nlayers = [-1]", "must be at least 0"},
        {"[train.loop]\nlayers = 0.5", "must be a list of whole numbers"},
        {"[train.loop]\ntags = [1]", "must be a list of texts"},
        {"[model.hidden_size]\nx = 1", "given:1: unknown section [model.hidden_size]"},
        {"model = 3", "given:1: unknown key model"},
        {"[model]\nname = \"unfinished", "given:2: not valid TOML"},
        {"[model]\nhidden_size = 99999999999999999999", "given:2: not valid TOML"},
        {"[model]\nsteps = 1\nsteps = 2", "given:3: not valid TOML"},
        {"[model]\nname = \"\xff\"", "not valid TOML"},
    };
    for (const auto& [text, part] : mistakes) CHECK_THAT(error_of(text), ContainsSubstring(part));
}

TEST_CASE("config: a table marks what was changed, the help lists everything") {
    Sample config;
    config.hidden_size = 64;
    const std::string table = to_table(config);
    CHECK_THAT(table, ContainsSubstring("model.hidden_size  64") && ContainsSubstring("* default 512"));
    CHECK(std::count(table.begin(), table.end(), '*') == 1);
    CHECK(std::count(table.begin(), table.end(), '\n') == 8);
    const std::string help = to_help(Sample{});
    CHECK_THAT(help, ContainsSubstring("[train.loop]  The loop") && ContainsSubstring("hidden_size = 512") &&
                         ContainsSubstring("(1 … 1048576)") && ContainsSubstring("(red | green | blue)") &&
                         ContainsSubstring("in a section visited twice"));
}

TEST_CASE("edit distance counts slips of the hand") {
    CHECK(edit_distance("", "") == 0);
    CHECK(edit_distance("", "abc") == 3);
    CHECK(edit_distance("kitten", "sitting") == 3);
    CHECK(edit_distance("trian", "train") == 1);
    CHECK(edit_distance("ca", "abc") == 3);  // no edits inside a swapped pair
    constexpr std::array<std::string_view, 3> kWords{"train", "eval", "data"};
    CHECK(did_you_mean("trian", kWords) == "; did you mean train?");
    CHECK(did_you_mean("xyzzy", kWords) == "");
}

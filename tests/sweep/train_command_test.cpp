#include "base/child_process.h"
#include "sweep/train_cell.h"
#include "tests/sweep/sweep_fixture.h"

using namespace ballast;
using Words = std::vector<std::string>;

TEST_CASE("train command: the same run from any folder") {
    const test::SweepFixture sweep;
    const auto file =
        sweep::load_sweep_file(sweep.path("[set]\nsample.prompt = \"It's \\\"so\\\"\"\n[grid]\nmodel.normaliser = "
                                          "[\"off_by_one\"]\noptimizer.eps = [1e-6]\ndata.first_token = [\"every_document\"]\n"));
    const auto cells = sweep::expand(file, {"data.validation=v.h5"});
    const std::string here = std::filesystem::current_path().string();
    const Words words = sweep::train_command("/bin/ballast", file, cells[0], "/runs/x y", "auto");
    CHECK(words == Words{"/bin/ballast", "train", sweep.folder / "base.toml", "--set", words[4], "--set",
                         "model.normaliser=off_by_one", "--set", "optimizer.eps=1e-06", "--set",
                         "data.first_token=every_document", "--set",
                         "data.train=" + here + "/t.h5", "--set", "data.validation=" + here + "/v.h5", "--set",
                         "data.tokenizer=" + here + "/t.json", "--set", "data.index=", "--out", "/runs/x y", "--resume"});
    // Whatever the quoting, the settings give the cell's config again.
    Words settings;
    for (size_t i = 0; i + 1 < words.size(); ++i)
        if (words[i] == "--set") settings.push_back(words[i + 1]);
    CHECK(to_toml(train::RunConfig::load(words[2], settings)) == to_toml(cells[0].config));
    CHECK(cells[0].config.sample.prompt == "It's \"so\"");
    CHECK(cells[0].config.data.first_token == data::FirstToken::every_document);
}

TEST_CASE("train cell: an error's line, a kill and a missing end are failures of the cell") {
    const test::TemporaryFolder folder;
    const auto outcome = [&](const std::string& script) {
        return sweep::train_cell({"/bin/sh", "-c", script}, folder / "run", [](int64_t, double) {});
    };
    const auto refused = outcome("echo step 1; echo 'ballast: error: no room' >&2; exit 2");
    CHECK(refused.end == sweep::CellEnd::failed);
    CHECK(refused.error == "no room");
    CHECK_THAT(outcome("kill -9 $$").error, Catch::Matchers::ContainsSubstring("signal 9"));
    CHECK(outcome("echo all well").end == sweep::CellEnd::failed);  // but no run that says finished
    CHECK(outcome("echo all well").error == "all well");
    CHECK(outcome("echo '{\"status\": \"finished\", \"step\": 1}' > " + (folder / "run/status.json")).end ==
          sweep::CellEnd::finished);
    int64_t step = 0;
    double loss = 0;
    sweep::train_cell({"/bin/sh", "-c", "echo '{\"step\": 4, \"loss\": 2.5}' >> " + (folder / "run/metrics.jsonl")},
                      folder / "run", [&](int64_t s, double l) { step = s, loss = l; });
    CHECK(step == 4);
    CHECK(loss == 2.5);
    // Lines as long as those of training are read whole, and of many the newest.
    std::string lines;
    for (int i = 1; i < 10; ++i)
        lines += fmt::format("{{\"step\": 1{}, \"loss\": 1.5, \"note\": \"{}\"}}\n", i, std::string(300, 'x'));
    write_file(folder / "lines", lines);
    sweep::train_cell({"/bin/sh", "-c", "cat " + (folder / "lines") + " >> " + (folder / "run/metrics.jsonl")},
                      folder / "run", [&](int64_t s, double l) { step = s, loss = l; });
    CHECK(step == 19);
    CHECK(loss == 1.5);
}

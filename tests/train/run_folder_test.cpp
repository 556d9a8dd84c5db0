// What a run's folder keeps: a run ends with the same bits across interruptions, kills and bad disks, and no other run
// is lost by accident.
#include <filesystem>
#include <fstream>
#include <random>

#include "base/interrupt.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"
#include "train/run_directory.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using train::RunStatus;
using train::StartMode;

TEST_CASE("interrupted anywhere and resumed, a run ends with the same bits") {
    RunFixture f;
    f.config.model.normaliser = Normaliser::sink_logit;
    f.config.model.num_sink_tokens = 1;
    f.run("whole", StartMode::fresh);
    std::mt19937 random(20261123);
    for (int trial = 0; trial < 4; ++trial) {
        const std::string name = "resumed" + std::to_string(trial);
        const int64_t first = 1 + static_cast<int64_t>(random() % 9),
                      second = first + 1 + static_cast<int64_t>(random() % 8);
        INFO("stopped after " << first << " and " << second);
        {
            const InterruptGuard guard;
            CHECK(f.run(name, StartMode::fresh, interrupt_after(first)) == RunStatus::interrupted);
        }
        CHECK(train::RunDirectory(f.folder / name).status() == RunStatus::interrupted);
        {
            const InterruptGuard guard;
            CHECK(f.run(name, StartMode::resume, interrupt_after(second)) == RunStatus::interrupted);
        }
        CHECK(f.run(name, StartMode::resume) == RunStatus::finished);
        CHECK(f.metrics(name) == f.metrics("whole"));
        CHECK(f.newest_checkpoint(name) == f.newest_checkpoint("whole"));
    }
}

TEST_CASE("a killed run resumes from its newest valid checkpoint, and metrics are cut back to it") {
    RunFixture f;
    f.config.checkpoint.keep_last = 0;
    f.run("whole", StartMode::fresh);
    f.run("killed", StartMode::fresh);
    const train::RunDirectory directory(f.folder / "killed");
    CHECK(directory.checkpoint_steps() == std::vector<int64_t>{5, 10, 15, 20});
    // What a kill and a bad disk leave: a torn line, the newest checkpoint truncated, the one before it flipped.
    std::ofstream(directory.file("metrics.jsonl"), std::ios::app) << "{\"step\": 21, \"lo";
    std::filesystem::resize_file(directory.checkpoint_path(20),
                                 std::filesystem::file_size(directory.checkpoint_path(20)) / 2);
    {
        std::fstream flip(directory.checkpoint_path(15), std::ios::in | std::ios::out | std::ios::binary);
        flip.seekp(static_cast<int64_t>(std::filesystem::file_size(directory.checkpoint_path(15)) / 2));
        flip.put('\x5a').put('\x5a').put('\x5a').put('\x5a');
    }
    std::vector<std::string> warnings;
    train::TrainObserver observer;
    int64_t started = -1;
    observer.started = [&](int64_t step) { started = step; };
    observer.warning = [&](const std::string& text) { warnings.push_back(text); };
    CHECK(f.run("killed", StartMode::resume, observer) == RunStatus::finished);
    CHECK(started == 10);
    CHECK(warnings.size() == 2);
    CHECK(f.metrics("killed") == f.metrics("whole"));
    CHECK(f.newest_checkpoint("killed") == f.newest_checkpoint("whole"));
}

TEST_CASE("checkpoints that a kill kept from being removed go at the resume, and damaged ones count for none") {
    RunFixture f;
    f.config.checkpoint.keep_last = 1;
    f.run("a", StartMode::fresh);
    const train::RunDirectory directory(f.folder / "a");
    std::filesystem::copy_file(directory.checkpoint_path(20), directory.checkpoint_path(15));
    f.run("a", StartMode::resume);
    CHECK(directory.checkpoint_steps() == std::vector<int64_t>{20});

    f.config.train.steps = 17;
    f.run("b", StartMode::fresh);
    const train::RunDirectory damaged(f.folder / "b");
    put_bytes(damaged.checkpoint_path(20), "damaged");
    f.run("b", StartMode::resume);
    CHECK(damaged.checkpoint_steps() == std::vector<int64_t>{17, 20});
}

TEST_CASE("a checkpoint that was protected when it was saved stays, whatever later resumes say of the interval") {
    RunFixture f;
    f.config.checkpoint.every = 1;
    f.config.checkpoint.keep_last = 1;
    f.config.checkpoint.protect_every = 4;
    f.config.train.steps = 10;
    f.run("a", StartMode::fresh);
    const train::RunDirectory directory(f.folder / "a");
    REQUIRE(directory.checkpoint_steps() == std::vector<int64_t>{4, 8, 10});

    std::vector<std::string> notes;
    train::TrainObserver observer;
    observer.note = [&](const std::string& text) { notes.push_back(text); };
    f.config.train.steps = 13;
    f.config.checkpoint.protect_every = 6;
    f.run("a", StartMode::resume, observer);
    CHECK(directory.checkpoint_steps() == std::vector<int64_t>{4, 8, 12, 13});
    REQUIRE(notes.size() == 1);
    CHECK_THAT(notes[0], ContainsSubstring("earlier settings protected, of 2 steps up to 8"));

    f.config.train.steps = 15;
    f.config.checkpoint.protect_every = 0;
    f.run("a", StartMode::resume);
    CHECK(directory.checkpoint_steps() == std::vector<int64_t>{4, 8, 12, 15});
}

TEST_CASE("an old checkpoint that cannot be removed costs a warning, and neither the save nor the run") {
    RunFixture f;
    for (const bool background : {true, false}) {
        CAPTURE(background);
        f.config.checkpoint.background = background;
        const std::string name = background ? "background" : "waited";
        const train::RunDirectory directory(f.folder / name);
        const std::string stuck = directory.checkpoint_path(1);
        std::vector<std::string> warnings;
        std::vector<int64_t> saved;
        train::TrainObserver observer;
        observer.step = [&](const train::StepMetrics& m) {
            if (m.step == 3) std::filesystem::create_directories(stuck + "/in the way");
        };
        observer.checkpoint = [&](const train::SaveOutcome& outcome) { saved.push_back(outcome.step); };
        observer.warning = [&](const std::string& text) { warnings.push_back(text); };
        CHECK(f.run(name, StartMode::fresh, observer) == RunStatus::finished);
        CHECK(saved == std::vector<int64_t>{5, 10, 15, 20});
        CHECK(directory.checkpoint_steps() == std::vector<int64_t>{1, 15, 20});
        REQUIRE(warnings.size() == 3);  // at 10, 15 and 20
        for (const std::string& warning : warnings)
            CHECK_THAT(warning, ContainsSubstring("cannot remove " + stuck + " (Directory not empty)"));
        CHECK(f.run(name, StartMode::resume, observer) == RunStatus::finished);
        CHECK(warnings.size() == 4);
    }
}

TEST_CASE("a folder of checkpoints that cannot be read is not taken for an empty one") {
    const TemporaryFolder folder;
    const train::RunDirectory none(folder / "none"), file(folder / "file"), unreadable(folder / "unreadable");
    std::filesystem::create_directories(file.path());
    put_bytes(file.file("checkpoints"), "a file in its place");
    for (const auto* directory : {&none, &file}) {
        CHECK(directory->checkpoint_steps().empty());
        CHECK_FALSE(directory->has_run());
    }
    std::filesystem::create_directories(unreadable.path());
    std::filesystem::create_symlink("checkpoints", unreadable.file("checkpoints"));  // a circle
    const std::string wanted = "cannot read the folder " + unreadable.file("checkpoints");
    CHECK_THAT(message_of([&] { unreadable.checkpoint_steps(); }), ContainsSubstring(wanted));
    CHECK_THAT(message_of([&] { unreadable.has_run(); }), ContainsSubstring(wanted));
    CHECK_THAT(message_of([&] { unreadable.newest_valid_checkpoint([](const std::string&) {}); }),
               ContainsSubstring(wanted));
}

TEST_CASE("a folder with a run is neither overwritten nor shared by accident") {
    RunFixture f;
    f.config.train.steps = 2;
    f.run("a", StartMode::fresh);
    CHECK_THROWS_AS(f.run("a", StartMode::fresh), UserError);
    CHECK(f.run("a", StartMode::overwrite) == RunStatus::finished);
    train::RunDirectory held(f.folder / "a");
    held.create_and_lock();
    CHECK_THROWS_AS(f.run("a", StartMode::overwrite), UserError);
    CHECK(f.metrics("a").size() == 3);  // two steps and a validation: nothing was lost
}

TEST_CASE("a resumed run whose checkpoints are all damaged is the user's to decide") {
    RunFixture f;
    f.config.train.steps = 2;
    f.run("a", StartMode::fresh);
    const train::RunDirectory directory(f.folder / "a");
    for (const int64_t step : directory.checkpoint_steps())
        std::filesystem::resize_file(directory.checkpoint_path(step), 100);
    CHECK_THROWS_AS(f.run("a", StartMode::resume), UserError);
    CHECK(f.metrics("a").size() == 3);
}

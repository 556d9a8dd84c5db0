// Saving while training goes on: what is written is the state at the save, whatever happens to it meanwhile.
#include <cerrno>
#include <future>

#include "base/build_info.h"
#include "base/hdf5_file.h"
#include "tests/base/message_of.h"
#include "tests/base/refused_calls.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"
#include "train/background_save.h"
#include "train/memory_plan.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using train::StartMode;

namespace {

/// A model that is not trained, and what saves it.
struct Saving : RunFixture {
    Context context{device, 2};
    model::Transformer model{context, resolved(), Dtype::f32};
    train::Optimizer optimizer{context, model.weights(), {}, 1.0};
    train::BackgroundSave background{context, model.weights(), optimizer};

    Saving() { model.weights().initialise(context, 1); }

    const model::ModelConfig& resolved() {
        train::resolve_vocabulary(config.model, 300);
        return config.model;
    }
    train::CheckpointInfo info(int64_t step) { return {.step = step, .config = config, .tokenizer_hash = "x"}; }
    std::string save(const std::string& name) {
        train::save_checkpoint(folder / name, info(7), model.weights(), optimizer);
        return read_file(folder / name);
    }
};

const auto kNothing = [] {};
const auto kNoWarning = [] { return std::string(); };

}  // namespace

TEST_CASE("background save: the file is the state of its step, though the state changes before it is written") {
    Saving f;
    const std::string expected = f.save("waited.h5");
    std::promise<void> go;
    bool after = false;
    f.background.start(
        f.folder / "background.h5", f.info(7), [&, ready = go.get_future().share()] { ready.wait(); },
        [&] {
            after = true;
            return std::string("a warning");
        });
    CHECK_FALSE(f.background.poll());
    f.model.weights().initialise(f.context, 2);
    CHECK_FALSE(std::filesystem::exists(f.folder / "background.h5"));
    go.set_value();
    const auto outcome = f.background.wait();
    REQUIRE(outcome);
    CHECK_FALSE(outcome->failure);
    CHECK(outcome->step == 7);
    CHECK(outcome->warning == "a warning");
    CHECK(after);
    CHECK(read_file(f.folder / "background.h5") == expected);
    CHECK(f.save("later.h5") != expected);
    CHECK_FALSE(f.background.poll());  // told once
    CHECK_FALSE(f.background.wait());
}

TEST_CASE("background save: a disk that refuses is told with the outcome, and the next save works") {
    Saving f;
    std::filesystem::create_directories(f.folder / "a.h5/in the way");
    f.background.start(f.folder / "a.h5", f.info(1), kNothing,
                       []() -> std::string { throw InternalError("it was not saved"); });
    const auto outcome = f.background.wait();
    REQUIRE(outcome);
    REQUIRE(outcome->failure);
    CHECK_THAT(message_of([&] { std::rethrow_exception(outcome->failure); }), ContainsSubstring("Is a directory"));
    f.background.start(f.folder / "b.h5", f.info(2), kNothing, kNoWarning);
    CHECK_THROWS_AS(f.background.start(f.folder / "c.h5", f.info(3), kNothing, kNoWarning), InternalError);
    CHECK_FALSE(f.background.wait()->failure);
    train::verify_checkpoint(f.folder / "b.h5");
}

TEST_CASE("background save: where the system refuses a thread, training waits for the file", "[cpu]") {
    if (!build_info().sanitizers.empty()) {
        WARN("skipped: sanitizers start threads of their own");
        return;
    }
    const auto code = with_refused_calls({SYS_clone, SYS_clone3}, EAGAIN, [] {
        Saving f;
        const std::string expected = f.save("waited.h5");
        for (const std::string name : {"a.h5", "b.h5"}) {
            f.background.start(f.folder / name, f.info(7), kNothing, kNoWarning);
            const auto outcome = f.background.poll();
            if (!outcome || outcome->failure || outcome->step != 7 || outcome->waited < outcome->seconds) return 2;
            if (read_file(f.folder / name) != expected) return 3;
        }
        return f.background.poll() || f.background.wait() ? 4 : 1;
    });
    if (!code) {
        WARN("skipped: no system call filters here");
        return;
    }
    CHECK(*code == 1);
}

TEST_CASE("background save: one that is under way when its owner ends is finished") {
    Saving f;
    {
        train::BackgroundSave background(f.context, f.model.weights(), f.optimizer);
        background.start(f.folder / "a.h5", f.info(1), kNothing, kNoWarning);
    }
    train::verify_checkpoint(f.folder / "a.h5");
}

TEST_CASE("background save: weights that are not finite are refused before the copy is written") {
    Saving f;
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        const auto& row = f.model.weights().table().rows().back();
        std::vector<float> values(static_cast<size_t>(row.count), 1.0f);
        values.back() = bad;
        f.model.weights().write(f.context, row, values.data());
        for (const bool background : {true, false}) try {
                if (background)
                    f.background.start(f.folder / "a.h5", f.info(1), kNothing, kNoWarning);
                else
                    f.save("b.h5");
                FAIL("they were saved");
            } catch (const RunError& error) {
                CHECK(error.what() == "the weights of " + row.name + " are not finite");
            }
    }
    CHECK_FALSE(f.background.wait());
    CHECK_FALSE(std::filesystem::exists(f.folder / "a.h5"));
}

TEST_CASE("background save: checkpoints have the same bytes as those that training waits for") {
    RunFixture f;
    f.config.checkpoint = {.every = 3, .log_spaced = true, .keep_last = 2, .protect_every = 6};
    f.run("background", StartMode::fresh);
    f.config.checkpoint.background = false;
    f.run("waited", StartMode::fresh);
    const train::RunDirectory waited(f.folder / "waited"), background(f.folder / "background");
    CHECK(background.checkpoint_steps() == std::vector<int64_t>{0, 1, 2, 4, 6, 8, 12, 15, 16, 18, 20});
    CHECK(background.checkpoint_steps() == waited.checkpoint_steps());
    for (const int64_t step : waited.checkpoint_steps())
        CHECK(read_file(background.checkpoint_path(step)) == read_file(waited.checkpoint_path(step)));
}

TEST_CASE("background save: its memory is in the plan, where a save may be due before the end") {
    RunFixture f;
    Context context(f.device, 1);
    train::resolve_vocabulary(f.config.model, 300);
    const auto planned = [&] { return train::plan_memory(context, f.config, train::Distribution(f.config)).snapshot; };
    CHECK(planned() == 12 * static_cast<size_t>(model::ParameterTable(f.config.model).flat_size()));
    f.config.train.dtype = Dtype::bf16;
    CHECK(planned() == 12 * static_cast<size_t>(model::ParameterTable(f.config.model).flat_size()));
    f.config.checkpoint.every = 0;
    CHECK(planned() == 0);
    f.config.checkpoint.log_spaced = true;
    CHECK(planned() > 0);
    f.config.checkpoint.background = false;
    CHECK(planned() == 0);
}

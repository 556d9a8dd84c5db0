// Training in fp16: overflows are skipped, the scale recovers, everything resumes to the bit, and a fault that is not
// the scale's ends the run before anything changes. On a GPU's device only.
#include <csignal>
#include <random>

#include "base/hdf5_file.h"
#include "base/interrupt.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"

using namespace ballast;
using namespace ballast::test;
using train::RunStatus;
using train::StartMode;

namespace {

bool has_fp16() {
    if (test_device() == Device::cpu) WARN("skipped: the CPU does not compute in fp16");
    return test_device() != Device::cpu;
}

struct Fp16Fixture : RunFixture {
    Fp16Fixture() {
        config.train.dtype = Dtype::f16;
        config.validation.every = 0;
        config.checkpoint = {5, false, 0, 0};
    }
};

struct StepLine {
    double scale;
    bool skipped;
    double rate;
};

/// The steps of metrics.jsonl.
std::vector<StepLine> steps_of(const RunFixture& run, const std::string& name) {
    std::vector<StepLine> steps;
    for (const auto& line : run.metrics(name))
        if (line.contains("loss_scale")) steps.push_back({line["loss_scale"], line["skipped"], line["lr"]});
    return steps;
}

/// Every dataset but the configuration, as bytes.
std::string tensors_of(const std::string& checkpoint) {
    const Hdf5Reader file(checkpoint);
    std::string all;
    for (const auto& name : file.names()) {
        if (name == "config") continue;
        const auto info = file.dataset(name);
        std::string bytes(static_cast<size_t>(info.numel()) * size_of(info.dtype), '\0');
        file.read(name, bytes.data(), 0, info.numel());
        all += name + bytes;
    }
    return all;
}

/// A copy of a checkpoint with other values of the loss scaler; none: without its dataset and attribute, as before
/// fp16.
void rewrite(const std::string& from, const std::string& to, std::optional<train::LossScalerState> scaler,
             std::optional<int64_t> skipped) {
    const Hdf5Reader old(from);
    Hdf5Writer out(to);
    for (const char* name : {"format", "ballast_version", "tokenizer_hash"})
        out.set_attribute(name, old.string_attribute(name));
    for (const char* name : {"step", "tokens"}) out.set_attribute(name, old.integer_attribute(name));
    if (skipped) out.set_attribute("steps_skipped", *skipped);
    for (const auto& name : old.names()) {
        if (name.starts_with("loss_scaler/")) continue;
        const auto info = old.dataset(name);
        std::string bytes(static_cast<size_t>(info.numel()) * size_of(info.dtype), '\0');
        old.read(name, bytes.data(), 0, info.numel());
        out.write(name, info.dtype, info.shape, bytes.data());
    }
    if (scaler) {
        out.write("loss_scaler/scale", Dtype::f64, {}, &scaler->scale);
        out.write("loss_scaler/hysteresis", Dtype::i64, {}, &scaler->hysteresis);
        out.write("loss_scaler/good_updates", Dtype::i64, {}, &scaler->good_updates);
    }
    out.commit();
}

}  // namespace

TEST_CASE("fp16: a scale that overflows is skipped, halves, then trains, and the schedule waits for it") {
    if (!has_fp16()) return;
    Fp16Fixture run;
    run.config.fp16.initial_scale_power = 40;
    run.config.train.steps = 60;
    run.config.checkpoint.log_spaced = true;
    REQUIRE(run.run("a", StartMode::fresh) == RunStatus::finished);
    const auto steps = steps_of(run, "a");
    REQUIRE(steps.size() == 60);
    train::LossScaler scaler(run.config.fp16);
    const train::Schedule schedule = run.config.schedule();
    int64_t skipped = 0;
    for (size_t i = 0; i < steps.size(); ++i) {
        INFO("step " << i + 1);
        CHECK(steps[i].scale == scaler.scale());
        CHECK(steps[i].rate == schedule.at_update(static_cast<int64_t>(i) + 1 - skipped));
        REQUIRE(scaler.update(steps[i].skipped));
        skipped += steps[i].skipped;
    }
    CHECK(steps.front().skipped);
    CHECK_FALSE(steps.back().skipped);
    CHECK(skipped >= 10);  // 2^40 / 128 targets, and fp16 ends at 2^16
    CHECK(skipped <= 35);
    const auto losses = run.losses("a");
    CHECK(losses.back() <= losses.front() - 0.5);

    // Skipped steps change neither parameters nor moments.
    const train::RunDirectory directory(run.folder / "a");
    const Hdf5Reader before(directory.checkpoint_path(0)), after(directory.checkpoint_path(8));
    CHECK(after.integer_attribute("steps_skipped") == 8);
    for (const auto& name : before.names()) {
        if (name == "config" || name.starts_with("loss_scaler/")) continue;
        const auto count = static_cast<size_t>(before.dataset(name).numel());
        std::vector<float> a(count), b(count);
        before.read(name, a.data(), 0, static_cast<int64_t>(count));
        after.read(name, b.data(), 0, static_cast<int64_t>(count));
        INFO(name);
        CHECK(a == b);
    }
    const train::CheckpointInfo info = train::read_checkpoint_info(directory.checkpoint_path(60));
    CHECK(info.steps_skipped == skipped);
    REQUIRE(info.loss_scaler);
    CHECK(info.loss_scaler->scale == scaler.scale());
    CHECK(info.loss_scaler->hysteresis == scaler.state().hysteresis);
    CHECK(info.loss_scaler->good_updates == scaler.state().good_updates);
}

TEST_CASE("fp16: interrupted anywhere and resumed, a run ends with the same bits, its loss scaler's too") {
    if (!has_fp16()) return;
    Fp16Fixture run;
    run.config.fp16 = {25, 3, 2, 1};  // overflows first, and grows until it does again
    run.config.train.steps = 24;
    run.run("whole", StartMode::fresh);
    const train::RunDirectory whole(run.folder / "whole");
    const auto steps = steps_of(run, "whole");
    CHECK(std::count_if(steps.begin(), steps.end(), [](const StepLine& s) { return s.skipped; }) >= 3);
    std::mt19937 random(20261125);
    for (int trial = 0; trial < 3; ++trial) {
        const std::string name = "resumed" + std::to_string(trial);
        const int64_t first = 1 + static_cast<int64_t>(random() % 11),
                      second = 12 + static_cast<int64_t>(random() % 11);
        INFO("stopped after " << first << " and " << second);
        for (const int64_t stop : {first, second}) {
            const InterruptGuard guard;
            train::TrainObserver observer;
            observer.step = [stop](const train::StepMetrics& m) {
                if (m.step == stop) std::raise(SIGINT);
            };
            CHECK(run.run(name, stop == first ? StartMode::fresh : StartMode::resume, observer) ==
                  RunStatus::interrupted);
        }
        CHECK(run.run(name, StartMode::resume) == RunStatus::finished);
        CHECK(run.metrics(name) == run.metrics("whole"));
        const train::RunDirectory resumed(run.folder / name);
        CHECK(tensors_of(resumed.checkpoint_path(24)) == tensors_of(whole.checkpoint_path(24)));
    }
}

TEST_CASE("fp16: an overflow at the smallest scale ends the run before any parameter changes") {
    if (!has_fp16()) return;
    Fp16Fixture run;
    run.config.fp16 = {41, 1000, 2, 1099511627776.0};  // 2^41, then 2^40, where it must stay
    run.config.checkpoint.every = 1;
    run.config.checkpoint.log_spaced = true;
    std::string message;
    try {
        run.run("a", StartMode::fresh);
    } catch (const RunError& error) {
        message = error.what();
    }
    INFO(message);
    CHECK(message.starts_with("step 3: the gradient of gpt_neox."));  // 1: forgiven, 2: halved
    CHECK(message.find("at the smallest loss scale (1099511627776)") != std::string::npos);
    CHECK(message.find("step_00000002.h5") != std::string::npos);  // the last good checkpoint
    const train::RunDirectory directory(run.folder / "a");
    CHECK(directory.status() == RunStatus::failed);
    CHECK(directory.checkpoint_steps() == std::vector<int64_t>{0, 1, 2});
    CHECK(steps_of(run, "a").size() == 2);
}

TEST_CASE("fp16: checkpoints from before loss scaling are read, impossible scalers are refused") {
    if (!has_fp16()) return;
    Fp16Fixture run;
    run.config.train.steps = 4;
    run.run("a", StartMode::fresh);
    const train::RunDirectory directory(run.folder / "a");
    const std::string path = directory.checkpoint_path(4), copy = run.folder / "copy.h5";
    rewrite(path, copy, std::nullopt, std::nullopt);
    const train::CheckpointInfo old = train::read_checkpoint_info(copy);
    CHECK(old.step == 4);
    CHECK(old.steps_skipped == 0);
    CHECK_FALSE(old.loss_scaler);
    for (const train::LossScalerState& bad : {train::LossScalerState{0, 1, 0},
                                              {-1, 1, 0},
                                              {std::nan(""), 1, 0},
                                              {HUGE_VAL, 1, 0},
                                              {4096, 0, 0},
                                              {4096, 1, -1}}) {
        rewrite(path, copy, bad, 0);
        CHECK_THROWS_AS(train::read_checkpoint_info(copy), UserError);
    }
    for (const int64_t bad : {-1, 5}) {
        rewrite(path, copy, train::LossScalerState{}, bad);
        CHECK_THROWS_AS(train::read_checkpoint_info(copy), UserError);
    }
    // A run goes on from such a checkpoint with a fresh scaler.
    rewrite(path, copy, std::nullopt, std::nullopt);
    std::filesystem::rename(copy, path);
    run.config.train.steps = 6;
    CHECK(run.run("a", StartMode::resume) == RunStatus::finished);
    CHECK(steps_of(run, "a").back().scale == 4096);
}

TEST_CASE("fp16: what was skipped is remembered when a run goes on in bf16") {
    if (!has_fp16()) return;
    Fp16Fixture run;
    run.config.fp16.initial_scale_power = 40;
    run.config.train.steps = 4;
    run.run("a", StartMode::fresh);
    run.config.train.dtype = Dtype::bf16;
    run.config.train.steps = 8;
    CHECK(run.run("a", StartMode::resume) == RunStatus::finished);
    CHECK(steps_of(run, "a").size() == 4);  // bf16's lines have no scale
    for (const auto& line : run.metrics("a"))
        if (line["step"] == 5) CHECK(line["lr"].get<double>() == run.config.schedule().at_update(1));
}

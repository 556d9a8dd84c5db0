// Runs: they learn, repeat to the bit across kills, resumes and thread counts, and stop before a step that is not
// finite.
#include <csignal>
#include <fstream>
#include <random>

#include "base/hdf5_file.h"
#include "base/interrupt.h"
#include "model/sink_tokens.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"
#include "train/load_model.h"

using namespace ballast;
using namespace ballast::test;
using train::RunStatus;
using train::StartMode;

namespace {

/// Every tensor of the newest checkpoint, as bytes.
std::string checkpoint_bytes(const RunFixture& fixture, const std::string& name) {
    const train::RunDirectory directory(fixture.folder / name);
    const Hdf5Reader file(directory.checkpoint_path(directory.checkpoint_steps().back()));
    std::string all;
    for (const auto& dataset : file.names()) {
        if (dataset == "config") continue;  // names the run's number of threads
        const auto info = file.dataset(dataset);
        std::string bytes(static_cast<size_t>(info.numel()) * size_of(info.dtype), '\0');
        file.read(dataset, bytes.data(), 0, info.numel());
        all += dataset + bytes;
    }
    return all;
}

/// Stops the run after `step` the way Ctrl-C does.
train::TrainObserver interrupt_after(int64_t step) {
    train::TrainObserver observer;
    observer.step = [step](const train::StepMetrics& m) {
        if (m.step == step) std::raise(SIGINT);
    };
    return observer;
}

}  // namespace

TEST_CASE("every kind of model learns") {
    RunFixture f;
    f.config.train.steps = 40;
    const auto learns = [&](const std::string& name) {
        INFO(name);
        CHECK(f.run(name, StartMode::fresh) == RunStatus::finished);
        const auto losses = f.losses(name);
        REQUIRE(losses.size() == 40);
        CHECK(losses.front() == Approx(std::log(384.0)).margin(0.3));
        CHECK(losses.back() <= losses.front() - 1.0);
    };
    learns("softmax");
    f.config.model.normaliser = Normaliser::off_by_one;
    learns("off_by_one");
    f.config.model.normaliser = Normaliser::sink_logit;
    learns("sink_logit");
    f.config.model.normaliser = Normaliser::softmax;
    f.config.model.num_sink_tokens = 2;
    learns("sink_tokens");
    f.config.model.position = model::Position::alibi;
    f.config.train.dtype = Dtype::bf16;
    learns("alibi_bf16");
}

TEST_CASE("a run repeats to the bit, for any number of threads") {
    RunFixture f;
    f.run("one", StartMode::fresh);
    f.run("again", StartMode::fresh);
    f.config.train.threads = 3;
    f.run("three", StartMode::fresh);
    CHECK(f.metrics("one") == f.metrics("again"));
    CHECK(f.metrics("one") == f.metrics("three"));
    CHECK(checkpoint_bytes(f, "one") == checkpoint_bytes(f, "again"));
    CHECK(checkpoint_bytes(f, "one") == checkpoint_bytes(f, "three"));
}

TEST_CASE("recomputed activations change no bit of a run, and may be chosen anew at a resume") {
    RunFixture f;
    f.run("none", StartMode::fresh);
    f.config.train.recompute = model::Recompute::attention;
    f.run("attention", StartMode::fresh);
    {
        const InterruptGuard guard;
        CHECK(f.run("changed", StartMode::fresh, interrupt_after(7)) == RunStatus::interrupted);
    }
    f.config.train.recompute = model::Recompute::full;
    f.run("full", StartMode::fresh);
    CHECK(f.run("changed", StartMode::resume) == RunStatus::finished);
    for (const char* name : {"attention", "full", "changed"}) CHECK(f.metrics(name) == f.metrics("none"));
}

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
        CHECK(checkpoint_bytes(f, name) == checkpoint_bytes(f, "whole"));
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
    CHECK(checkpoint_bytes(f, "killed") == checkpoint_bytes(f, "whole"));
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

TEST_CASE("a run that diverges stops before the update, names the tensor and keeps its last checkpoint") {
    RunFixture f;
    f.config.checkpoint.every = 1;
    f.config.optimizer.learning_rate = 10;  // the largest the config allows, with no clipping and no warm-up
    f.config.optimizer.clip_norm = 0;
    f.config.optimizer.warmup = 0;
    f.config.optimizer.eps = 0;  // 0/0 where a gradient is zero: NaN weights after one update
    f.config.train.steps = 30;
    std::string message;
    try {
        f.run("nan", StartMode::fresh);
    } catch (const RunError& error) {
        message = error.what();
    }
    INFO(message);
    CHECK(message.find("stopped before the update") != std::string::npos);
    CHECK(message.find("gpt_neox.") != std::string::npos);
    CHECK(message.find("last good checkpoint") != std::string::npos);
    CHECK(train::RunDirectory(f.folder / "nan").status() == RunStatus::failed);
}

TEST_CASE("the optimiser changes nothing when a gradient or the loss is not finite") {
    const RunFixture f;
    Context context(test_device(), 1);
    model::Weights weights(context, f.config.model, Dtype::f32);
    weights.initialise(context, 1);
    const auto snapshot = [&](const Tensor& tensor) {
        std::vector<float> values(static_cast<size_t>(tensor.numel()));
        context.copy_to_host(values.data(), tensor);
        return values;
    };
    const auto before = snapshot(weights.master_flat());
    train::Optimizer optimizer(context, weights, {}, 1.0);
    OnDevice<double> loss(1.0);
    const Tensor losses = loss.tensor(Dtype::f64);
    const auto& row = weights.table().row(model::Role::mlp_up_weight, 1);
    const Tensor gradient = optimizer.gradients().of(row).view({row.count}).slice(0, 5, 6);
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        optimizer.begin(1, 1e-3);
        context.copy_from_host(gradient, &bad);
        const auto result = optimizer.step(weights, losses);
        CHECK_FALSE(result.applied);
        CHECK(result.non_finite_parameter == row.name);
        CHECK(snapshot(weights.master_flat()) == before);
    }
    optimizer.begin(1, 1e-3);
    const float good = 0.5f;
    context.copy_from_host(gradient, &good);
    loss.set(std::numeric_limits<double>::quiet_NaN());
    CHECK_FALSE(optimizer.step(weights, losses).applied);
    CHECK(snapshot(weights.master_flat()) == before);
    loss.set(1.0);
    CHECK(optimizer.step(weights, losses).applied);
    CHECK(snapshot(weights.master_flat()) != before);
}

TEST_CASE("gradient accumulation: the same update however the batch is cut") {
    RunFixture f;
    f.config.train.steps = 5;
    f.config.train.micro_batch = 4;
    f.run("whole", StartMode::fresh);
    f.config.train.micro_batch = 1;
    f.run("cut", StartMode::fresh);
    const auto a = f.losses("whole"), b = f.losses("cut");
    for (size_t i = 0; i < a.size(); ++i) CHECK(a[i] == Approx(b[i]).epsilon(1e-5));
}

TEST_CASE("a store made with another tokenizer, and a vocabulary too small, are refused") {
    RunFixture f;
    ThreadPool pool(1);
    data::BpeTrainer trainer({.vocab_size = 290});
    trainer.add_texts({data::TextPiece{sample_text(), "text.txt", 0, true}}, pool);
    data::Tokenizer(trainer.train()).save(f.folder / "other.json");
    auto config = f.config.data;
    config.tokenizer = f.folder / "other.json";
    CHECK_THROWS_AS(train::RunData::open(config), UserError);

    auto model = f.config.model;
    model.vocab_size = 299;
    CHECK_THROWS_AS(train::resolve_vocabulary(model, 300), UserError);
    model.vocab_size = 300;
    model.num_sink_tokens = 2;
    train::resolve_vocabulary(model, 300);
    CHECK(model.sink_token_id == 300);
    CHECK(model.vocab_size == 384);  // grows to the next multiple of 128
    model = f.config.model;
    model.num_sink_tokens = 4;
    train::resolve_vocabulary(model, 300);
    CHECK(model.vocab_size == 384);  // they fit already
}

TEST_CASE("a loaded run computes what it computed, from folder, file and export") {
    RunFixture f;
    f.config.train.steps = 3;
    f.run("a", StartMode::fresh);
    Context context(test_device(), 1);
    const train::RunDirectory directory(f.folder / "a");
    const auto from_folder = train::load_model(f.folder / "a", context, Dtype::f32);
    const auto from_file = train::load_model(directory.checkpoint_path(3), context, Dtype::f32);
    CHECK(from_folder.step == 3);
    CHECK(from_folder.tokenizer_path == directory.file("tokenizer.json"));
    CHECK(from_file.tokenizer_path == from_folder.tokenizer_path);
    CHECK_THROWS_AS(train::load_model(f.folder / "nowhere", context, Dtype::f32), UserError);
    CHECK_THROWS_AS(train::load_model(f.folder / "text.txt", context, Dtype::f32), UserError);
    CHECK_THROWS_AS(train::load_model(f.folder / "train.h5", context, Dtype::f32), UserError);
    CHECK_THROWS_AS(train::load_model(f.folder.path(), context, Dtype::f32), UserError);
}

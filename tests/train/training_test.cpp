// Runs: they learn, repeat to the bit across kills, resumes and thread counts, and stop before a step that is not
// finite.
#include <csignal>
#include <cerrno>
#include <fstream>
#include <numeric>
#include <random>

#include <sys/resource.h>

#include "base/hdf5_file.h"
#include "base/interrupt.h"
#include "model/sink_tokens.h"
#include "tests/catch.h"
#include "tests/base/message_of.h"
#include "tests/model/model_fixture.h"
#include "tests/train/run_fixture.h"
#include "model/hugging_face.h"
#include "train/memory_plan.h"
#include "train/load_model.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using train::RunStatus;
using train::StartMode;

namespace {

std::string newest_checkpoint(const RunFixture& fixture, const std::string& name) {
    const train::RunDirectory directory(fixture.folder / name);
    return directory.checkpoint_path(directory.checkpoint_steps().back());
}

/// Every tensor of the newest checkpoint, as bytes.
std::string checkpoint_bytes(const RunFixture& fixture, const std::string& name) {
    const Hdf5Reader file(newest_checkpoint(fixture, name));
    std::string all;
    for (const auto& dataset : file.names()) {
        if (dataset == "config") continue;  // names what may be chosen anew
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
    for (const char* name : {"again", "three"})
        CHECK(bytes_of(newest_checkpoint(f, "one")) == bytes_of(newest_checkpoint(f, name)));

    std::vector<std::string> warnings;
    train::TrainObserver observer;
    observer.warning = [&](const std::string& text) { warnings.push_back(text); };
    f.config.train.threads = 2;
    f.run("one", StartMode::resume, observer);
    CHECK(warnings.empty());
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

TEST_CASE("a run that diverges stops before the update, names the tensor and keeps its last checkpoint") {
    RunFixture f;
    f.config.optimizer.learning_rate = 10;  // the largest the config allows, with no clipping and no warm-up
    f.config.optimizer.clip_norm = 0;
    f.config.optimizer.warmup = 0;
    f.config.optimizer.eps = 0;  // 0/0 where a gradient is zero: NaN weights after one update
    f.config.train.steps = 30;
    const auto failure = [&](const std::string& name) {
        std::string message;
        try {
            f.run(name, StartMode::fresh);
        } catch (const RunError& error) {
            message = error.what();
        }
        CHECK(train::RunDirectory(f.folder / name).status() == RunStatus::failed);
        return message;
    };
    const std::string gradients = failure("gradients");
    CHECK_THAT(gradients, ContainsSubstring("step 2: the gradient of gpt_neox."));
    CHECK_THAT(gradients, ContainsSubstring("stopped before the update"));
    CHECK_THAT(gradients, ContainsSubstring("no checkpoint was saved yet"));

    // A checkpoint that is due before the next step shows it is not saved as good.
    f.config.checkpoint.log_spaced = true;
    const std::string weights = failure("weights");
    const train::RunDirectory directory(f.folder / "weights");
    CHECK_THAT(weights, ContainsSubstring("step 1: the weights of gpt_neox."));
    CHECK_THAT(weights, ContainsSubstring("the last good checkpoint is " + directory.checkpoint_path(0)));
    CHECK(directory.checkpoint_steps() == std::vector<int64_t>{0});
}

TEST_CASE("a step saves before it samples: what fails then costs no checkpoint, and a resume makes up for it") {
    RunFixture f;
    f.config.sample.every = 10;
    f.config.sample.tokens = 5;
    std::vector<std::string> events;
    train::TrainObserver observer;
    observer.checkpoint = [&](const train::SaveOutcome&) { events.push_back("saved"); };
    observer.validation = [&](int64_t, double) { events.push_back("validated"); };
    observer.sample = [&](int64_t, const std::string&) { events.push_back("sampled"); };
    f.run("whole", StartMode::fresh, observer);
    // Step 10 is saved while it is validated; that it is on the disk is told after step 11 or later.
    const std::vector<std::string> expected{"saved", "validated", "sampled",   "saved",
                                            "saved", "saved",     "validated", "sampled"};
    CHECK(events == expected);

    for (const bool sampled : {false, true}) {  // dies while it validates, or samples
        CAPTURE(sampled);
        const std::string name = sampled ? "sampling" : "validating";
        train::TrainObserver dies;
        if (sampled)
            dies.sample = [](int64_t, const std::string&) { throw RunError("no memory"); };
        else
            dies.validation = [](int64_t, double) { throw RunError("no memory"); };
        CHECK_THROWS_AS(f.run(name, StartMode::fresh, dies), RunError);
        const train::RunDirectory directory(f.folder / name);
        CHECK(directory.checkpoint_steps().back() == 10);
        if (!sampled) directory.cut_back("metrics.jsonl", 9);  // as if it had died before the line, too
        if (sampled) directory.cut_back("samples.jsonl", 9);
        CHECK(f.run(name, StartMode::resume) == RunStatus::finished);
        CHECK(read_file(directory.file("samples.jsonl")) == read_file(f.folder / "whole/samples.jsonl"));
        const auto lines = [&](const std::string& run) {
            auto all = f.metrics(run);
            std::erase_if(all, [](const auto& line) { return line["step"] == 10 && line.contains("loss"); });
            return all;
        };
        CHECK(lines(name) == lines("whole"));
    }
}

TEST_CASE("validation and samples are planned: nothing grows while a run trains") {
    RunFixture f;
    f.config.sample.every = 5;
    f.config.sample.prompt = sample_text().substr(0, 500);  // longer than the context
    f.config.train.sequence_length = 4;                     // steps smaller than the sampler's
    f.config.train.global_batch = f.config.train.micro_batch = 1;
    train::RunData data = train::RunData::open(f.config.data);
    train::resolve_vocabulary(f.config.model, data.tokenizer.vocab_size());
    Context context(f.device, 1);
    train::MemoryPlan plan = train::plan_memory(context, f.config, train::Distribution(f.config));
    CHECK(plan.sampling > 0);
    CHECK(plan.validation > 0);
    const size_t with_all = plan.total(f.device);
    train::RunDirectory directory(f.folder / "a");
    const train::Distribution distribution(f.config);
    train::Trainer trainer(context, f.config, data, directory, {}, distribution);
    const size_t scratch = context.scratch().capacity();
    CHECK(scratch <= plan.scratch);
    CHECK(trainer.run(StartMode::fresh) == RunStatus::finished);
    CHECK(context.scratch().capacity() == scratch);

    f.config.sample.every = 0;
    f.config.data.validation.clear();
    const train::MemoryPlan less = train::plan_memory(context, f.config, train::Distribution(f.config));
    CHECK(less.total(f.device) + plan.sampling + plan.validation + plan.scratch - less.scratch == with_all);
    plan.sample_order = size_t{1} << 50;
    try {
        require_fit(plan, Device::cpu, size_t{1} << 40);
        FAIL("it does not fit");
    } catch (const UserError& error) {
        CHECK_THAT(error.what(), ContainsSubstring("the order of the samples takes most of it"));
    }
    CHECK_NOTHROW(require_fit(plan, Device::cuda, size_t{1} << 40));  // the host's memory
}

TEST_CASE("a run that could never work is refused before its first step") {
    const auto refused = [](const std::function<void(train::RunConfig&)>& change) {
        RunFixture bad;
        change(bad.config);
        const std::string message = message_of([&] { bad.run("a", StartMode::fresh); });
        CHECK_FALSE(std::filesystem::exists(bad.folder / "a/metrics.jsonl"));
        return message;
    };
    CHECK_THAT(refused([](train::RunConfig& c) { c.train.micro_batch = c.train.global_batch = 512; }),
               ContainsSubstring("too few for one validation pass of 512 x 32 + 1"));
    CHECK_THAT(refused([](train::RunConfig& c) { c.sample.prompt = "caf\xe9"; }),
               ContainsSubstring("sample.prompt is not valid UTF-8 from byte 3 on (\"caf…\")"));
    RunFixture bad_path;
    bad_path.config.data.validation = "d\xe9/v.h5";
    CHECK_THAT(message_of([&] { bad_path.config.validate(); }),
               ContainsSubstring("data.validation is not valid UTF-8 from byte 1 on"));
    CHECK_THAT(refused([](train::RunConfig& c) {
                   c.train.steps = 1000000000000000;
                   c.train.global_batch = 1 << 20;
               }),
               ContainsSubstring("more than the 1e18 that can be counted"));
}

TEST_CASE("lines that the disk refuses leave whole lines behind, and training goes on") {
    RunFixture f;
    const std::string path = f.folder / "lines.jsonl";
    train::JsonLines lines(path);
    lines.append_validation(1, 2.5);
    const std::string first = read_file(path);
    const auto previous = std::signal(SIGXFSZ, SIG_IGN);
    rlimit unlimited{};
    ::getrlimit(RLIMIT_FSIZE, &unlimited);
    const auto limit = [&](rlim_t bytes) {
        const rlimit limited{bytes, unlimited.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &limited) == 0);
    };
    limit(first.size() + 10);  // in the middle of the next line
    errno = ENOENT;            // what went before is not the reason
    const std::string message = message_of([&] { lines.append_validation(2, 2.25); });
    CHECK(read_file(path) == first);
    limit(unlimited.rlim_cur);
    CHECK_THAT(message, ContainsSubstring("File too large"));
    lines.append_validation(3, 2.0);
    const std::string both = read_file(path);
    CHECK(both.starts_with(first + "{\"step\":3,"));
    CHECK(both.ends_with("}\n"));

    std::vector<std::string> warnings;
    train::TrainObserver observer;
    observer.started = [&](int64_t) { limit(300); };  // a line or two
    bool lost_lines = false;
    observer.warning = [&](const std::string& text) {
        warnings.push_back(text);
        lost_lines |= text.find("metrics.jsonl: File too large") != std::string::npos;
        if (text.find("was not saved") != std::string::npos) limit(unlimited.rlim_cur);
    };
    f.config.checkpoint.every = 10;  // one that cannot be saved, and the last one that can
    CHECK(f.run("a", StartMode::fresh, observer) == RunStatus::finished);
    std::signal(SIGXFSZ, previous);
    // A line that happens to be shorter may fit after one that did not: then there is another warning.
    std::erase_if(warnings, [](const std::string& text) {
        return text.find("metrics.jsonl: File too large") != std::string::npos &&
               text.find("training goes on") != std::string::npos;
    });
    CHECK(lost_lines);
    REQUIRE(warnings.size() == 1);
    CHECK_THAT(warnings[0], ContainsSubstring("step 10 was not saved"));
    CHECK(train::RunDirectory(f.folder / "a").checkpoint_steps() == std::vector<int64_t>{20});
    CHECK(f.metrics("a").back()["step"] == 20);
}

TEST_CASE("bf16 weights that are loaded are the ones computed with: resumed, from a checkpoint, from Hugging Face",
          "[cpu]") {
    RunFixture f;
    f.device = Device::cpu;
    f.config.train.dtype = Dtype::bf16;
    f.run("whole", StartMode::fresh);
    {
        const InterruptGuard guard;
        CHECK(f.run("resumed", StartMode::fresh, interrupt_after(7)) == RunStatus::interrupted);
    }
    CHECK(f.run("resumed", StartMode::resume) == RunStatus::finished);
    CHECK(f.metrics("resumed") == f.metrics("whole"));
    CHECK(checkpoint_bytes(f, "resumed") == checkpoint_bytes(f, "whole"));

    Context context(Device::cpu, 1);
    const auto loss_of = [&](const std::string& name, Dtype dtype) {
        const auto loaded = train::load_model(f.folder / name, context, dtype);
        model::Pass pass(context, *loaded.model, model::PassKind::forward, 1, 32);
        const std::vector<int32_t> ids = random_ids(5, 32, 300), targets = random_ids(6, 32, 300);
        pass.set_tokens(ids, targets);
        pass.forward();
        const std::vector<float> losses = context.read_floats(pass.losses());
        return std::accumulate(losses.begin(), losses.end(), 0.0) / 32;
    };
    const auto trained = train::load_model(f.folder / "whole", context, Dtype::f32);
    model::write_hugging_face(f.folder / "hf", context, trained.model->config(), trained.model->weights(), {});
    const double exact = loss_of("whole", Dtype::f32);
    CHECK(std::abs(exact - std::log(384.0)) > 0.1);  // a model of zeros gives that
    for (const char* name : {"whole", "hf"}) CHECK(loss_of(name, Dtype::bf16) == Approx(exact).epsilon(5e-3));
    CHECK(loss_of("whole", Dtype::bf16) == loss_of("hf", Dtype::bf16));
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
        CHECK_FALSE(result.applied());
        CHECK(result.non_finite_parameter == row.name);
        CHECK(snapshot(weights.master_flat()) == before);
    }
    optimizer.begin(1, 1e-3);
    const float good = 0.5f;
    context.copy_from_host(gradient, &good);
    loss.set(std::numeric_limits<double>::quiet_NaN());
    CHECK_FALSE(optimizer.step(weights, losses).applied());
    CHECK(snapshot(weights.master_flat()) == before);
    loss.set(1.0);
    CHECK(optimizer.step(weights, losses).applied());
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

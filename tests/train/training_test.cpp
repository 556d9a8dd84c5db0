// Runs: they learn, repeat to the bit for any number of threads, and stop before a step that is not finite. What their
// folders keep across kills and resumes: run_folder_test.cpp.
#include <csignal>
#include <cerrno>
#include <numeric>

#include <sys/resource.h>

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
    const auto file_bytes = [&](const char* name) {
        const train::RunDirectory directory(f.folder / name);
        return bytes_of(directory.checkpoint_path(directory.checkpoint_steps().back()));
    };
    for (const char* name : {"again", "three"}) CHECK(file_bytes(name) == file_bytes("one"));

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
    CHECK(f.newest_checkpoint("resumed") == f.newest_checkpoint("whole"));

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

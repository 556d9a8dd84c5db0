// Settings reach what they are for.
#include "model/sink_tokens.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"
#include "train/validation.h"

using namespace ballast;
using namespace ballast::test;
using train::RunStatus;
using train::StartMode;

TEST_CASE("every setting of the optimiser changes what is learnt") {
    RunFixture f;
    f.config.validation.every = 0;
    f.config.train.steps = 6;
    f.config.optimizer.warmup = 0;
    f.run("plain", StartMode::fresh);
    const auto plain = f.losses("plain");
    const train::OptimizerConfig before = f.config.optimizer;
    const auto matters = [&](const char* name, const std::function<void(train::OptimizerConfig&)>& change) {
        INFO(name);
        f.config.optimizer = before;
        change(f.config.optimizer);
        f.run(name, StartMode::fresh);
        const auto losses = f.losses(name);
        REQUIRE(losses.size() == plain.size());
        CHECK(losses.front() == plain.front());  // of the same weights
        CHECK(losses.back() != plain.back());
    };
    matters("learning_rate", [](auto& o) { o.learning_rate *= 1.1; });
    matters("min_learning_rate", [](auto& o) { o.min_learning_rate = 1e-3; });
    matters("beta1", [](auto& o) { o.beta1 = 0.8; });
    matters("beta2", [](auto& o) { o.beta2 = 0.9; });
    matters("eps", [](auto& o) { o.eps = 1e-4; });
    matters("weight_decay", [](auto& o) { o.weight_decay = 0; });
    matters("clip_norm", [](auto& o) { o.clip_norm = 0.1; });
    matters("schedule", [](auto& o) { o.schedule = train::ScheduleKind::corrected; });
}

TEST_CASE("samples a pass: as told, or the largest divisor of the batch within 8192 positions") {
    train::RunConfig config;
    const auto samples = [&](int64_t length, int64_t batch, int64_t micro = 0) {
        config.train.sequence_length = length;
        config.train.global_batch = batch;
        config.train.micro_batch = micro;
        return config.samples_per_pass();
    };
    CHECK(samples(2048, 1024) == 4);  // 8192 positions
    CHECK(samples(2049, 1024) == 2);
    CHECK(samples(512, 6) == 6);
    CHECK(samples(1000, 9) == 3);
    CHECK(samples(10000, 8) == 1);
    CHECK(samples(2048, 1024, 16) == 16);
}

TEST_CASE("validation is the mean over its first windows, each read once") {
    RunFixture f;
    Context context(f.device, 1);
    const train::RunData data = train::RunData::open(f.config.data);
    for (const int64_t sinks : {0, 2}) {
        f.config.model.num_sink_tokens = sinks;
        f.config.model.sink_token_id = 300;
        model::Transformer model(context, f.config.model, Dtype::f32);
        model.weights().initialise(context, 3);
        f.config.validation.batches = 2;  // of 2 samples
        train::Validation validation(context, model, *data.validation, f.config);
        const data::SequentialSampler sampler(*data.validation, 32);
        REQUIRE(sampler.size() > 4);
        model::Pass pass(context, model, model::PassKind::forward, 1, 32);
        double sum = 0;
        for (int64_t w = 0; w < 4; ++w) {
            std::vector<int32_t> window(33), ids(32), targets(32);
            sampler.sample(w, window.data());
            model::fill_sample(window, f.config.model, ids, targets);
            pass.set_tokens(ids, targets);
            pass.forward();
            for (const float loss : context.read_floats(pass.losses())) sum += loss;
        }
        const double expected = sum / static_cast<double>(4 * model::targets_per_sample(f.config.model, 32));
        CHECK(validation.loss() == Approx(expected).epsilon(1e-6));
        CHECK(validation.loss() == validation.loss());
    }
}

TEST_CASE("a resumed run says what has changed, and keeps as many checkpoints as it is told") {
    RunFixture f;
    f.run("a", StartMode::fresh);
    const train::RunDirectory directory(f.folder / "a");
    CHECK(directory.checkpoint_steps() == std::vector<int64_t>{15, 20});
    std::vector<std::string> warnings;
    train::TrainObserver observer;
    observer.warning = [&](const std::string& text) { warnings.push_back(text); };
    CHECK(f.run("a", StartMode::resume, observer) == RunStatus::finished);
    CHECK(warnings.empty());
    f.config.optimizer.learning_rate = 1e-3;
    f.config.train.threads = 2;  // which changes nothing
    f.config.validation.batches = 1;
    CHECK(f.run("a", StartMode::resume, observer) == RunStatus::finished);
    REQUIRE(warnings.size() == 2);
    CHECK(warnings[0] ==
          "the checkpoint was made with [optimizer] learning_rate = 0.003; this run continues with "
          "learning_rate = 0.001");
    CHECK(warnings[1] == "the checkpoint was made with [validation] batches = 2; this run continues with batches = 1");
}

// Runs whose data hold batches of noise: their updates are skipped, or the run goes back and round them.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>

#include "base/hdf5_file.h"
#include "data/megatron_files.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"
#include "tests/train/thread_ranks.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using train::RunStatus;
using train::SpikeAction;
using train::StartMode;
namespace fs = std::filesystem;

namespace {

constexpr int kLength = 32, kBatch = 4, kSteps = 30;
using Samples = std::vector<std::vector<uint16_t>>;

/// A pattern that is soon learnt; those of the steps `noisy` are noise.
Samples samples_with_noise(int steps, const std::vector<int>& noisy) {
    std::mt19937 random(7);
    Samples samples(static_cast<size_t>(steps * kBatch), std::vector<uint16_t>(kLength + 1));
    for (int s = 0; s < steps * kBatch; ++s)
        for (int t = 0; t <= kLength; ++t) {
            const bool noise = std::count(noisy.begin(), noisy.end(), s / kBatch + 1) > 0;
            samples[size_t(s)][size_t(t)] = static_cast<uint16_t>(noise ? random() % 300 : 20 + (s * 3 + t) % 7);
        }
    return samples;
}

/// A run that reads such samples in their order.
struct NoisyRun : RunFixture {
    explicit NoisyRun(const Samples& samples, SpikeAction action = SpikeAction::skip) {
        write(samples, "noisy");
        config.data.train = folder / "noisy.idx";
        config.data.validation.clear();
        config.data.order = data::OrderKind::preshuffled;
        config.train.steps = kSteps;
        config.train.spike_action = action;
        config.train.spike_zscore = 4;
        config.train.spike_window = 10;
        config.checkpoint = {1, false, 0, 0};
    }
    void write(const Samples& samples, const std::string& name) const {
        data::MegatronWriter writer(folder / (name + ".idx"), Dtype::u16);
        std::vector<int64_t> ends;
        for (const auto& sample : samples) {
            writer.append_tokens(sample.data(), kLength + 1);
            ends.push_back((kLength + 1) * static_cast<int64_t>(ends.size() + 1));
        }
        writer.commit(static_cast<int64_t>(ends.size()), [&](const auto& visit) { visit(std::span(ends)); });
    }
    std::string checkpoint(const std::string& run, int step) const {
        return folder / fmt::format("{}/checkpoints/step_{:08}.h5", run, step);
    }
    std::vector<int> skipped(const std::string& run) const {
        std::vector<int> steps;
        for (const auto& line : metrics(run))
            if (line.value("skipped", false)) steps.push_back(line["step"]);
        return steps;
    }
    /// A copy of the run as a kill after `step` leaves it goes on to the end.
    void resume_copy(const std::string& run, const std::string& copy, int step, int last_step) {
        fs::copy(folder / run, folder / copy, fs::copy_options::recursive);
        for (int later = step + 1; later <= last_step; ++later) fs::remove(checkpoint(copy, later));
        CHECK(this->run(copy, StartMode::resume) == RunStatus::finished);
    }
};

/// Weights and moments of a checkpoint, by name.
std::map<std::string, std::vector<float>> state_of(const std::string& path) {
    const Hdf5Reader file(path);
    std::map<std::string, std::vector<float>> state;
    for (const std::string& name : file.names()) {
        if (!name.starts_with("model/") && !name.starts_with("optimizer/")) continue;
        const Hdf5Dataset stored = file.dataset(name);
        auto& values = state[name];
        values.resize(static_cast<size_t>(stored.numel()));
        file.read_all(name, Dtype::f32, stored.shape, values.data());
    }
    return state;
}

}  // namespace

TEST_CASE("spikes: batches of noise are skipped, leave weights and moments alone, and are told") {
    NoisyRun f(samples_with_noise(kSteps, {20, 21}));
    std::vector<std::string> warnings;
    train::TrainObserver observer;
    observer.warning = [&](const std::string& text) { warnings.push_back(text); };
    CHECK(f.run("a", StartMode::fresh, observer) == RunStatus::finished);
    CHECK(f.skipped("a") == std::vector<int>{20, 21});
    REQUIRE(warnings.size() == 2);
    CHECK_THAT(warnings[0], ContainsSubstring("step 20: a spike (loss "));
    const auto before = state_of(f.checkpoint("a", 19));
    CHECK(before.size() > 20);
    CHECK((state_of(f.checkpoint("a", 20)) == before));
    CHECK((state_of(f.checkpoint("a", 21)) == before));
    CHECK_FALSE((state_of(f.checkpoint("a", 22)) == before));
    const auto lines = f.metrics("a");
    CHECK_THAT(lines[19]["why"].get<std::string>(), ContainsSubstring(" above "));
    CHECK_FALSE(lines[18].contains("why"));
    CHECK(lines[21]["lr"] == lines[19]["lr"]);  // the schedule waits

    f.config.train.spike_action = SpikeAction::none;
    f.run("none", StartMode::fresh);
    CHECK(f.skipped("none").empty());
    const auto with = f.losses("a"), without = f.losses("none");
    CHECK(std::equal(with.begin(), with.begin() + 20, without.begin()));
    CHECK(with[20] != without[20]);
    CHECK_FALSE(Hdf5Reader(f.checkpoint("none", 20)).has("spikes/rollbacks"));
}

TEST_CASE("spikes: a run that is killed before, between and after them goes on with the same bytes", "[cpu]") {
    NoisyRun f(samples_with_noise(kSteps, {20, 21}));
    f.run("a", StartMode::fresh);
    for (const int step : {3, 19, 20, 21, 27}) {
        const std::string copy = std::to_string(step);
        f.resume_copy("a", copy, step, kSteps);
        CHECK(read_file(f.checkpoint(copy, kSteps)) == read_file(f.checkpoint("a", kSteps)));
        CHECK(f.metrics(copy) == f.metrics("a"));
    }
}

TEST_CASE("spikes: a rollback ends with the weights of a run that never had the samples between", "[cpu]") {
    const int spare = 10;
    Samples samples = samples_with_noise(kSteps + spare, {18});
    NoisyRun f(samples, SpikeAction::rollback);
    f.config.checkpoint.every = 5;
    std::vector<std::string> warnings;
    train::TrainObserver observer;
    observer.warning = [&](const std::string& text) { warnings.push_back(text); };
    CHECK(f.run("a", StartMode::fresh, observer) == RunStatus::finished);
    REQUIRE(warnings.size() == 2);
    CHECK_THAT(warnings[1], ContainsSubstring("rolled back from step 18 to "));
    CHECK_THAT(warnings[1], ContainsSubstring("step_00000015.h5"));
    const auto lines = f.metrics("a");
    REQUIRE(lines.size() == kSteps);
    for (int step = 1; step <= kSteps; ++step) CHECK(lines[size_t(step - 1)]["step"] == step);
    CHECK(lines[15]["rolled_back_from"] == 18);
    CHECK_THAT(lines[15]["why_rolled_back"].get<std::string>(), ContainsSubstring("loss "));
    CHECK(f.skipped("a").empty());
    const auto order = nlohmann::json::parse(read_file(f.folder / "a/data_order.json"))["stretches"];
    REQUIRE(order.size() == 2);
    CHECK((order[1]["first_step"] == 16 && order[1]["first_sample"] == 18 * kBatch));

    for (const int step : {10, 15, 20}) {
        const std::string copy = "resumed" + std::to_string(step);
        f.resume_copy("a", copy, step, kSteps);
        CHECK(read_file(f.checkpoint(copy, kSteps)) == read_file(f.checkpoint("a", kSteps)));
        CHECK(f.metrics(copy) == lines);
        CHECK(read_file(f.folder / (copy + "/data_order.json")) == read_file(f.folder / "a/data_order.json"));
    }

    samples.erase(samples.begin() + 15 * kBatch, samples.begin() + 18 * kBatch);
    f.write(samples, "clean");
    f.config.data.train = f.folder / "clean.idx";
    f.config.train.spike_action = SpikeAction::none;
    f.run("clean", StartMode::fresh);
    CHECK((state_of(f.checkpoint("clean", kSteps)) == state_of(f.checkpoint("a", kSteps))));
}

TEST_CASE("spikes: a rollback never leads to a later checkpoint, which the resume could not read", "[cpu]") {
    NoisyRun f(samples_with_noise(kSteps + 10, {18}), SpikeAction::rollback);
    f.config.checkpoint.every = 5;
    CHECK(f.run("a", StartMode::fresh) == RunStatus::finished);
    fs::copy(f.folder / "a", f.folder / "b", fs::copy_options::recursive);
    for (const int step : {15, 20, 30}) fs::remove(f.checkpoint("b", step));
    const std::string later = f.checkpoint("b", 25), good = read_file(later);
    write_file(later, good.substr(0, good.size() / 2));  // as while a file system is away for a moment
    train::TrainObserver observer;
    observer.step = [&](const train::StepMetrics& metrics) {
        if (metrics.step == 17) write_file(later, good);
    };
    CHECK(f.run("b", StartMode::resume, observer) == RunStatus::finished);
    CHECK(f.metrics("b") == f.metrics("a"));
    CHECK(read_file(f.checkpoint("b", kSteps)) == read_file(f.checkpoint("a", kSteps)));
}

TEST_CASE("spikes: a rollback that cannot be is a skip, and says why", "[cpu]") {
    const auto warnings_of = [](NoisyRun& f) {
        std::string all;
        train::TrainObserver observer;
        observer.warning = [&](const std::string& text) { all += text + "\n"; };
        CHECK(f.run("a", StartMode::fresh, observer) == RunStatus::finished);
        CHECK(f.skipped("a") == std::vector<int>{18});
        return all;
    };
    NoisyRun none_yet(samples_with_noise(kSteps + 10, {18}), SpikeAction::rollback);
    none_yet.config.checkpoint.every = 0;
    CHECK_THAT(warnings_of(none_yet), ContainsSubstring("step 18: not rolled back, as there is no checkpoint yet"));
    NoisyRun too_few(samples_with_noise(kSteps, {18}), SpikeAction::rollback);
    too_few.config.checkpoint.every = 5;
    CHECK_THAT(warnings_of(too_few), ContainsSubstring("would not last to the end"));
}

TEST_CASE("spikes: noise that does not end, ends the run", "[cpu]") {
    std::vector<int> noisy;
    for (int step = 15; step <= kSteps; ++step) noisy.push_back(step);
    NoisyRun f(samples_with_noise(kSteps, noisy));
    CHECK_THROWS_WITH(f.run("a", StartMode::fresh), ContainsSubstring("11 updates in a row were spikes"));
    CHECK_THAT(read_file(f.folder / "a/status.json"), ContainsSubstring("failed"));
}

TEST_CASE("spikes: ranks agree, with the bytes of one", "[cpu]") {
    for (const SpikeAction action : {SpikeAction::skip, SpikeAction::rollback}) {
        NoisyRun f(samples_with_noise(kSteps + 10, {18}), action);
        f.config.checkpoint.every = 5;
        f.config.train.micro_batch = 1;
        f.config.train.reduction_lanes = 4;
        f.run("one", StartMode::fresh);
        CHECK(f.metrics("one")[15].contains("rolled_back_from") == (action == SpikeAction::rollback));
        for (const int64_t zero : {0, 1}) {
            f.config.train.zero = zero;
            const std::string name = "three" + std::to_string(zero);
            on_ranks(3, [&](Communicator& ranks) { f.run_as_rank(ranks, name, StartMode::fresh); });
            CHECK(read_file(f.checkpoint(name, kSteps)) == read_file(f.checkpoint("one", kSteps)));
            CHECK(f.metrics(name) == f.metrics("one"));
        }
    }
}

TEST_CASE("spikes: a loss that is not finite is skipped once limits are known, before that it ends the run", "[cpu]") {
    for (const int step : {3, 20}) {
        NoisyRun f(samples_with_noise(kSteps, {}));
        f.config.checkpoint = {0, false, 0, 0};
        train::RunConfig config = f.config;
        train::RunData data = train::RunData::open(config.data);
        train::resolve_vocabulary(config.model, data.tokenizer.vocab_size());
        Context context(f.device, 1);
        train::RunDirectory directory(f.folder / "a");
        const train::Distribution distribution(config);
        train::Trainer* trainer = nullptr;
        std::vector<float> good;
        train::TrainObserver observer;
        observer.step = [&](const train::StepMetrics& metrics) {
            const model::Weights& weights = trainer->model().weights();
            const Tensor tensor = weights.master(weights.table().rows().front());
            if (metrics.step == step) context.copy_from_host(tensor, good.data());
            if (metrics.step != step - 1) return;
            good = context.read_floats(tensor);
            const std::vector<float> bad(good.size(), std::numeric_limits<float>::quiet_NaN());
            context.copy_from_host(tensor, bad.data());
        };
        train::Trainer made(context, config, data, directory, observer, distribution);
        trainer = &made;
        if (step == 3) {
            CHECK_THROWS_WITH(made.run(StartMode::fresh), ContainsSubstring("step 3: "));
            continue;
        }
        CHECK(made.run(StartMode::fresh) == RunStatus::finished);
        CHECK(f.skipped("a") == std::vector<int>{20});
        CHECK(f.metrics("a")[19]["why"] == "loss not finite");
        for (const auto& line : f.metrics("a")) CHECK(line["loss"].is_number() == (line["step"] != 20));
    }
}

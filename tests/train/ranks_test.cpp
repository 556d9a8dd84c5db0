// Training on several ranks: the same bits, and the same files, as on one.
#include <atomic>
#include <cmath>
#include <csignal>
#include <tuple>

#include "base/interrupt.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"
#include "tests/train/thread_ranks.h"
#include "train/same_run.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Several blocks a parameter, passes that do not divide by the ranks, and everything on that a step may have.
struct SeveralPasses : RunFixture {
    SeveralPasses() {
        config.model.vocab_size = 4096;  // its embedding has two blocks
        config.model.num_sink_tokens = 1;
        config.data.document_mask = true;
        config.train.global_batch = 7;
        config.train.micro_batch = 1;
        config.train.steps = 6;
        config.train.reduction_lanes = 5;
        config.train.reduce_bucket_size = 1;  // a bucket for the head, each layer and the embedding
        config.checkpoint = {3, false, 2, 0};
        config.validation = {3, 2};
    }
};

void train_on(int ranks, const RunFixture& f, const std::string& name,
              train::StartMode mode = train::StartMode::fresh) {
    on_ranks(ranks, [&](Communicator& rank) { f.run_as_rank(rank, name, mode); });
}

std::string checkpoint_bytes(const RunFixture& f, const std::string& name, int step) {
    return read_file(f.folder / (name + "/checkpoints/step_0000000" + std::to_string(step) + ".h5"));
}

/// Rewrites a checkpoint as older versions wrote it.
void forget_lanes(const RunFixture& f, const std::string& path) {
    train::CheckpointInfo info = train::read_checkpoint_info(path);
    REQUIRE(info.lanes);
    info.lanes.reset();
    Context context(f.device, 1);
    model::Transformer model(context, info.config.model, Dtype::f32);
    train::Optimizer optimizer(context, model.weights(), {}, 1);
    train::load_checkpoint(path, context, model.weights(), &optimizer);
    train::save_checkpoint(path, info, model.weights(), optimizer);
    REQUIRE_FALSE(train::read_checkpoint_info(path).lanes);
}

/// The error with which all of three ranks end when `change` changed the configuration of rank 1, and 2 if `both`.
std::string refused_change(const RunFixture& f, const std::function<void(train::RunConfig&)>& change,
                           bool both = false) {
    std::atomic<int> ended{0};
    const std::string message = message_of([&] {
        on_ranks(3, [&](Communicator& rank) {
            train::RunConfig config = f.config;
            if (rank.rank() == 1 || (both && rank.rank() == 2)) change(config);
            if (const std::string said =
                    message_of([&] { f.run_config_as_rank(config, rank, "run", train::StartMode::fresh); });
                !said.empty()) {
                ++ended;
                throw UserError(said);
            }
        });
    });
    CHECK(ended == 3);
    return message;
}

}  // namespace

TEST_CASE("ranks: another config, tokenizer or corpus than rank 0's ends all before anything is written", "[cpu]") {
    using Catch::Matchers::ContainsSubstring;
    SeveralPasses f;
    const RunFixture others;
    data::BpeTrainer trainer({.vocab_size = 310});
    ThreadPool pool(1);
    trainer.add_texts({data::TextPiece{sample_text(), "text.txt", 0, true}}, pool);
    const data::Tokenizer other_tokenizer(trainer.train());
    other_tokenizer.save(others.folder / "310.json");
    data::PrepareOptions prepare;
    prepare.inputs = {others.folder / "text.txt"};
    prepare.output = others.folder / "310.h5";
    data::prepare(other_tokenizer, prepare, pool);
    prepare.output = others.folder / "whole.h5";
    data::prepare(data::Tokenizer::load(f.config.data.tokenizer), prepare, pool);

    using train::RunConfig;
    CHECK_THAT(refused_change(f, [](RunConfig& config) { config.train.seed = 7; }),
               ContainsSubstring("rank 1 (") &&
                   ContainsSubstring(") has [train] seed = 7 in its config and rank 0 has ") &&
                   ContainsSubstring("seed = 1234; start every rank with the same config"));
    CHECK_THAT(refused_change(
                   f, [](RunConfig& config) { config.train.zero = 1; }, true),
               ContainsSubstring("rank 1 (") && ContainsSubstring(") has [train] zero = 1 in its config") &&
                   ContainsSubstring("(and 1 more rank)"));
    CHECK_THAT(refused_change(f, [](RunConfig& config) { config.train.hang_timeout_seconds = 0; }),
               ContainsSubstring("hang_timeout_seconds = 0"));
    CHECK_THAT(refused_change(f,
                              [&](RunConfig& config) {
                                  config.data.tokenizer = others.folder / "310.json";
                                  config.data.train = others.folder / "310.h5";
                                  config.data.validation = "";
                              }),
               ContainsSubstring("rank 1 (") && ContainsSubstring("has another tokenizer in " + others.folder.path()));
    CHECK_THAT(refused_change(f, [&](RunConfig& config) { config.data.train = others.folder / "whole.h5"; }),
               ContainsSubstring("rank 1 (") && ContainsSubstring("has another text in " + others.folder.path()) &&
                   ContainsSubstring(data::TokenStore(f.config.data.train).fingerprint()));
    CHECK_FALSE(std::filesystem::exists(f.folder / "run"));
}

TEST_CASE("ranks: paths of files, threads and printing may differ", "[cpu]") {
    SeveralPasses f;
    train_on(2, f, "alike");
    for (const char* file : {"train.h5", "tokenizer.json"})
        std::filesystem::copy(f.folder / file, f.folder / (std::string("of rank 1 ") + file));
    on_ranks(2, [&](Communicator& rank) {
        train::RunConfig config = f.config;
        if (rank.rank() == 1) {
            config.data = f.config.data;
            config.data.train = f.folder / "of rank 1 train.h5";
            config.data.tokenizer = f.folder / "of rank 1 tokenizer.json";
            config.data.validation = "";
            config.train.threads = 2;
            config.train.log_every = 7;
        }
        f.run_config_as_rank(config, rank, "run", train::StartMode::fresh);
    });
    CHECK(f.metrics("run") == f.metrics("alike"));
}

TEST_CASE("ranks: one that finds another checkpoint, of other samples, ends all", "[cpu]") {
    SeveralPasses f;
    f.config.train.steps = 3;
    train_on(2, f, "run");
    f.config.train.global_batch = 6;
    train_on(2, f, "stale");
    f.config.train.global_batch = 7;
    f.config.train.steps = 6;
    const auto resume = [&](const std::string& of_rank_1) {
        return message_of([&] {
            on_ranks(2, [&](Communicator& rank) {
                f.run_as_rank(rank, rank.is_first() ? "run" : of_rank_1, train::StartMode::resume);
            });
        });
    };
    CHECK_THAT(resume("stale"), Catch::Matchers::ContainsSubstring("has another order of samples than rank 0"));
    CHECK(resume("run") == "");
}

TEST_CASE("ranks: all get the message of the lowest that differs, however long its value", "[cpu]") {
    const std::string long_value(5000, 'x');
    std::atomic<int> said{0};
    on_ranks(4, [&](Communicator& rank) {
        const std::string value = rank.rank() < 2 ? "1.0" : rank.rank() == 2 ? long_value : "1.1";
        const auto describe = [](const std::string& first, const std::string& mine) {
            return "runs " + mine + " where rank 0 runs " + first;
        };
        const std::string message = message_of([&] { train::require_same(rank, value, describe); });
        said += message.starts_with("rank 2 (") && message.ends_with(" (and 1 more rank)");
        CHECK(message_of([&] { train::require_same(rank, "1.0", describe); }) == "");
    });
    CHECK(said == 4);
}

TEST_CASE("ranks: with lanes, metrics and checkpoints have the same bytes on 1 to 4 ranks, ZeRO 0 and 1", "[cpu]") {
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        SeveralPasses f;
        f.config.train.dtype = dtype;
        train_on(1, f, "one");
        for (const int64_t zero : {0, 1})
            for (const int ranks : {1, 2, 3, 4}) {
                CAPTURE(name_of(dtype), zero, ranks);
                f.config.train.zero = zero;
                const std::string name = std::to_string(ranks) + " of " + std::to_string(zero);
                train_on(ranks, f, name);
                CHECK(f.metrics(name) == f.metrics("one"));
                for (const int step : {3, 6})
                    CHECK(checkpoint_bytes(f, name, step) == checkpoint_bytes(f, "one", step));
            }
    }
}

TEST_CASE("ranks: any buckets, reduced beside the backward pass or after it, tied heads: the same bytes", "[cpu]") {
    for (const bool tied : {false, true}) {
        SeveralPasses f;
        f.config.model.tie_word_embeddings = tied;
        f.config.train.steps = 3;
        train_on(1, f, "one");
        for (const auto& [zero, overlap, size] : {std::tuple{0, true, int64_t{1}},
                                                  {1, true, int64_t{20'000}},
                                                  {1, false, int64_t{1}},
                                                  {0, false, int64_t{1} << 40},
                                                  {1, true, int64_t{1} << 40}}) {
            CAPTURE(tied, zero, overlap, size);
            f.config.train.zero = zero;
            f.config.train.overlap = overlap;
            f.config.train.reduce_bucket_size = size;
            train_on(2, f, "two");
            CHECK(f.metrics("two") == f.metrics("one"));
            CHECK(checkpoint_bytes(f, "two", 3) == checkpoint_bytes(f, "one", 3));
            std::filesystem::remove_all(f.folder / "two");
        }
    }
}

TEST_CASE("ranks: a recorded step exchanges anew at every replay: the same bytes on 1 to 3 ranks, ZeRO 0 and 1") {
    SeveralPasses f;
    if (f.device == Device::cuda) return;  // these ranks are threads, and a process has one GPU
    f.config.train.global_batch = 4;
    f.config.train.reduction_lanes = 3;
    f.config.train.steps = 4;  // on a GPU the second is recorded, and two are replayed
    f.config.checkpoint = {4, false, 2, 0};
    f.config.validation.every = 0;
    train_on(1, f, "one");
    for (const auto& [ranks, zero, overlap, dtype] : {std::tuple{2, 0, true, Dtype::f32},
                                                      {3, 1, true, Dtype::f32},
                                                      {2, 1, false, Dtype::f32},
                                                      {3, 0, true, Dtype::bf16}}) {
        CAPTURE(ranks, zero, overlap, name_of(dtype));
        f.config.train.zero = zero;
        f.config.train.overlap = overlap;
        f.config.train.reduction_dtype = dtype;
        const std::string expected = dtype == Dtype::f32 ? "one" : "one in bf16";
        if (dtype != Dtype::f32) train_on(1, f, expected);
        train_on(ranks, f, "several");
        CHECK(f.metrics("several") == f.metrics(expected));
        CHECK(checkpoint_bytes(f, "several", 4) == checkpoint_bytes(f, expected, 4));
        std::filesystem::remove_all(f.folder / "several");
    }
}

TEST_CASE("ranks: gradients added up in bf16 have the same bytes on 1 to 4 ranks too, and losses near those of f32",
          "[cpu]") {
    SeveralPasses f;
    f.config.validation.every = 0;
    train_on(1, f, "f32");
    f.config.train.reduction_dtype = Dtype::bf16;
    train_on(1, f, "one");
    const auto exact = f.losses("f32"), rounded = f.losses("one");
    REQUIRE(exact.size() == 6);
    CHECK(exact != rounded);
    for (size_t i = 0; i < exact.size(); ++i)
        if (!(std::abs(rounded[i] - exact[i]) <= 1e-4 * exact[i])) FAIL(i << ": " << rounded[i] << " and " << exact[i]);
    for (const auto& [ranks, zero] : {std::pair{2, 0}, {3, 1}, {4, 0}}) {
        CAPTURE(ranks, zero);
        f.config.train.zero = zero;
        const std::string name = std::to_string(ranks);
        train_on(ranks, f, name);
        CHECK(f.metrics(name) == f.metrics("one"));
        CHECK(checkpoint_bytes(f, name, 6) == checkpoint_bytes(f, "one", 6));
    }
}

TEST_CASE("lanes: any buckets give the same bytes, in a recorded step too") {
    RunFixture f;
    f.config.train.steps = 3;  // on a GPU the second is recorded and the third replayed
    f.config.train.reduction_lanes = 2;
    f.config.train.reduction_dtype = Dtype::bf16;
    f.config.checkpoint = {3, false, 2, 0};
    f.config.validation.every = 0;
    train_on(1, f, "one bucket");
    f.config.train.reduce_bucket_size = 1;
    train_on(1, f, "many");
    CHECK(f.metrics("many") == f.metrics("one bucket"));
    CHECK(checkpoint_bytes(f, "many", 3) == checkpoint_bytes(f, "one bucket", 3));
}

TEST_CASE("ranks: a run goes on on another number of ranks with the same bytes", "[cpu]") {
    SeveralPasses f;
    train_on(1, f, "one");
    f.config.train.zero = 1;
    const int64_t all = std::exchange(f.config.train.steps, 3);
    const double rate = f.config.optimizer.learning_rate;
    CHECK(rate > 0);
    train_on(3, f, "moved");
    f.config.train.steps = all;
    CHECK(f.metrics("moved").size() > 2);
    // The schedule depends on the number of steps, so the whole run is compared with one that was resumed alike.
    train_on(4, f, "moved", train::StartMode::resume);  // a shard begins within a parameter
    f.config.train.steps = 3;
    f.config.train.zero = 0;
    train_on(1, f, "alike");
    f.config.train.steps = all;
    train_on(1, f, "alike", train::StartMode::resume);
    CHECK(f.metrics("moved") == f.metrics("alike"));
    CHECK(checkpoint_bytes(f, "moved", 6) == checkpoint_bytes(f, "alike", 6));
}

TEST_CASE("ranks: without lanes, a resume on another number of ranks warns that rounding differs", "[cpu]") {
    for (const int64_t lanes : {1, 5}) {
        SeveralPasses f;
        f.config.train.reduction_lanes = lanes;
        f.config.train.steps = 3;
        train_on(2, f, "run");
        const auto warnings_on = [&](int ranks) {
            std::vector<std::string> warnings;
            on_ranks(ranks, [&](Communicator& rank) {
                train::TrainObserver observer;
                if (rank.is_first()) observer.warning = [&](const std::string& text) { warnings.push_back(text); };
                f.run_as_rank(rank, "run", train::StartMode::resume, observer);
            });
            return warnings;
        };
        CAPTURE(lanes);
        CHECK(warnings_on(2).empty());
        const std::vector<std::string> said = warnings_on(3);
        REQUIRE(said.size() == (lanes == 1 ? 1 : 0));
        if (lanes > 1) continue;
        CHECK_THAT(said.front(), Catch::Matchers::ContainsSubstring(
                                     "the number of ranks was 2 when the checkpoint was made and is 3; "));
        forget_lanes(f, f.folder / "run/checkpoints/step_00000003.h5");
        CHECK(warnings_on(3).empty());
    }
}

TEST_CASE("ranks: without lanes, losses stay within rounding of one rank's", "[cpu]") {
    SeveralPasses f;
    f.config.train.reduction_lanes = 1;
    f.config.train.steps = 30;
    f.config.optimizer.learning_rate = f.config.optimizer.min_learning_rate = 3e-4;
    train_on(1, f, "one");
    train_on(3, f, "three");
    const auto one = f.losses("one"), three = f.losses("three");
    REQUIRE(one.size() == 30);
    REQUIRE(three.size() == 30);
    for (size_t i = 0; i < one.size(); ++i)
        if (!(std::abs(three[i] - one[i]) <= 1e-6 * one[i])) FAIL(i << ": " << three[i] << " and " << one[i]);
}

TEST_CASE("ranks: a wish to stop on any rank stops all of them after the same step", "[cpu]") {
    SeveralPasses f;
    train_on(1, f, "one");
    const InterruptGuard guard;
    on_ranks(3, [&](Communicator& rank) {
        train::TrainObserver observer;
        if (rank.rank() == 2)
            observer.step = [](const train::StepMetrics& metrics) {
                if (metrics.step == 2) std::raise(SIGUSR1);
            };
        CHECK(f.run_as_rank(rank, "stopped", train::StartMode::fresh, observer) == train::RunStatus::interrupted);
    });
    CHECK(f.losses("stopped").size() <= 3);
    CHECK(f.losses("stopped").size() >= 2);
}

TEST_CASE("ranks: more of them than lanes or passes are refused", "[cpu]") {
    SeveralPasses f;
    const auto refuse = [&](int ranks, const std::string& part) {
        CHECK_THAT(
            message_of([&] { on_ranks(ranks, [&](Communicator& rank) { train::Distribution(f.config, rank); }); }),
            Catch::Matchers::ContainsSubstring(part));
    };
    refuse(6, "6 ranks, but train.reduction_lanes = 5");
    f.config.train.reduction_lanes = 1;
    refuse(8, "8 ranks, but an update has 7 passes of 1 samples; take fewer ranks or raise train.global_batch");
    f.config.train.micro_batch = 7;
    refuse(2, "2 ranks, but an update has 1 passes of 7 samples; set train.micro_batch below 7 or");
    f.config.train.micro_batch = 1;
    f.config.train.reduction_lanes = 8;
    refuse(1, "8 lanes, but an update has 7 passes of 1 samples; take fewer lanes or");
}

TEST_CASE("ranks: a disk that refuses a checkpoint ends no rank", "[cpu]") {
    SeveralPasses f;
    std::vector<std::string> warnings;
    on_ranks(2, [&](Communicator& rank) {
        train::TrainObserver observer;
        // Root writes where nobody may: a folder in the file's place refuses everybody.
        observer.step = [&](const train::StepMetrics& metrics) {
            if (rank.is_first() && metrics.step == 2)
                std::filesystem::create_directories(f.folder / "full/checkpoints/step_00000003.h5/in the way");
        };
        if (rank.is_first()) observer.warning = [&](const std::string& text) { warnings.push_back(text); };
        f.run_as_rank(rank, "full", train::StartMode::fresh, observer);
    });
    REQUIRE(warnings.size() == 1);
    CHECK_THAT(warnings.front(), Catch::Matchers::ContainsSubstring("step 3 was not saved"));
    train_on(1, f, "one");
    CHECK(checkpoint_bytes(f, "full", 6) == checkpoint_bytes(f, "one", 6));
}

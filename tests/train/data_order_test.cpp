// What a resumed run reads when its settings have changed: nothing twice and nothing left out, or it is refused.
#include <csignal>

#include "base/hdf5_file.h"
#include "base/interrupt.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/data/index_files.h"
#include "tests/train/run_fixture.h"

using namespace ballast;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using train::DataChange;
using train::DataOrder;
using train::RunStatus;
using train::StartMode;

namespace {

/// Runs to step 10 of `steps` and is stopped there.
void begin(RunFixture& f, const std::string& name) {
    const InterruptGuard guard;
    train::TrainObserver observer;
    observer.step = [](const train::StepMetrics& m) {
        if (m.step == 10) std::raise(SIGINT);
    };
    REQUIRE(f.run(name, StartMode::fresh, observer) == RunStatus::interrupted);
}

train::CheckpointInfo newest(const RunFixture& f, const std::string& name) {
    const train::RunDirectory directory(f.folder / name);
    return train::read_checkpoint_info(directory.checkpoint_path(directory.checkpoint_steps().back()));
}

/// The same checkpoint as a version wrote it that kept no data order.
void forget_data_order(const std::string& path) {
    const std::string copy = path + ".new";
    {
        const Hdf5Reader old(path);
        Hdf5Writer out(copy);
        for (const char* name : {"format", "ballast_version", "tokenizer_hash"})
            out.set_attribute(name, old.string_attribute(name));
        for (const char* name : {"step", "tokens"}) out.set_attribute(name, old.integer_attribute(name));
        for (const auto& name : old.names()) {
            if (name == "data_order") continue;
            const auto info = old.dataset(name);
            std::string bytes(static_cast<size_t>(info.numel()) * size_of(info.dtype), '\0');
            old.read(name, bytes.data(), 0, info.numel());
            out.write(name, info.dtype, info.shape, bytes.data());
        }
        out.commit();
    }
    std::filesystem::rename(copy, path);
}

}  // namespace

// What is read does not depend on the device, so these stay on the CPU.
TEST_CASE("resumed with another batch, a run goes on at the first sample it has not read", "[cpu]") {
    RunFixture f;
    f.config.optimizer.learning_rate = f.config.optimizer.min_learning_rate = 0;  // a loss tells the samples only
    f.config.validation.every = 0;
    f.config.train.micro_batch = 1;
    f.run("whole", StartMode::fresh);
    begin(f, "changed");
    f.config.train.global_batch = 8;
    f.config.train.steps = 15;
    CHECK(f.run("changed", StartMode::resume) == RunStatus::finished);
    const auto small = f.losses("whole"), large = f.losses("changed");
    REQUIRE(large.size() == 15);
    for (size_t i = 0; i < 10; ++i) CHECK(large[i] == small[i]);
    for (size_t i = 0; i < 5; ++i)
        CHECK(large[10 + i] == Approx((small[10 + 2 * i] + small[11 + 2 * i]) / 2).epsilon(1e-6));

    // Tokens and samples are counted as they were read, in the metrics and in checkpoints.
    CHECK(f.metrics("changed")[9]["tokens"] == 10 * 4 * 32);
    CHECK(f.metrics("changed")[10]["tokens"] == 10 * 4 * 32 + 8 * 32);
    const train::RunDirectory directory(f.folder / "changed");
    const Hdf5Reader file(directory.checkpoint_path(15));
    CHECK(file.integer_attribute("samples") == 80);
    CHECK(file.integer_attribute("tokens") == 80 * 32);
    const DataOrder order = newest(f, "changed").data_order;
    CHECK(order.first_sample(10) == 36);
    CHECK(order.first_sample(11) == 40);
    CHECK(order.first_sample(15) == 72);
    CHECK(order.stretch_at(10).global_batch == 4);
    CHECK(order.stretch_at(11).global_batch == 8);
    CHECK(order.to_json() == read_file(directory.file("data_order.json")));
    CHECK(DataOrder::parse(order.to_json(), "again").to_json() == order.to_json());
    CHECK(to_toml(train::as_saved(train::RunConfig::load(directory.file("config.toml"), {}))) ==
          to_toml(newest(f, "changed").config));
}

TEST_CASE("resumed with another number of steps, a run keeps its order while it lasts", "[cpu]") {
    RunFixture f;
    f.config.validation.every = 0;
    begin(f, "a");
    const train::RunData data = train::RunData::open(f.config.data);
    const DataOrder order(f.config, data.train);
    const int64_t size = data::Sampler::size(data.train, order.last_stretch().order);
    f.config.train.steps = size / 4 + 1;
    const std::string message = message_of([&] { f.run("a", StartMode::resume); });
    CHECK_THAT(message, ContainsSubstring("of its " + std::to_string(size) + " samples " + std::to_string(size - 40) +
                                          " are left, and train.steps and train.global_batch ask for " +
                                          std::to_string((size / 4 + 1 - 10) * 4)));
    f.config.train.steps = size / 4;
    CHECK(f.run("a", StartMode::resume) == RunStatus::finished);
    CHECK(DataOrder(f.config, data.train).last_stretch().order != order.last_stretch().order);  // half a per cent more
    CHECK(newest(f, "a").data_order.last_stretch().order == order.last_stretch().order);
    f.config.train.steps = 5;
    CHECK_THAT(message_of([&] { f.run("a", StartMode::resume); }),
               ContainsSubstring("past the last of train.steps = 5"));
}

TEST_CASE("a run on Megatron's files goes on, also one of an older version, but not on another text of that shape",
          "[cpu]") {
    RunFixture f;
    ThreadPool pool(1);
    const data::Tokenizer tokenizer = data::Tokenizer::load(f.config.data.tokenizer);
    const auto prepared = [&](const std::string& name, const std::string& text) {
        write_file(f.folder / (name + ".txt"), text);
        data::PrepareOptions prepare;
        prepare.inputs = {f.folder / (name + ".txt")};
        prepare.output = f.folder / (name + ".idx");
        data::prepare(tokenizer, prepare, pool);
        return data::TokenStore(prepare.output);
    };
    std::string text = sample_text();
    const data::TokenStore store = prepared("a", text);
    text.back() = '#';  // for a line break: one token for one
    const data::TokenStore other = prepared("b", text);
    REQUIRE(other.num_tokens() == store.num_tokens());

    const DataOrder begun(f.config, store);
    std::string json = begun.to_json();
    const size_t checksums = json.find(", xxh3_64");
    REQUIRE(checksums != std::string::npos);
    json.erase(checksums, json.find('"', checksums) - checksums);
    for (DataOrder order : {begun, DataOrder::parse(json, "of an older version")}) {
        order.resume(10, f.config, store, false);
        CHECK(order.last_stretch().corpus == store.fingerprint());
        CHECK_THAT(message_of([&] { order.resume(10, f.config, other, false); }), ContainsSubstring("another text"));
    }
}

TEST_CASE("resumed with another order, a run is refused, or begins it when that is allowed", "[cpu]") {
    RunFixture f;
    f.config.validation.every = 0;
    begin(f, "a");
    const train::RunConfig before = f.config;
    const std::string metrics = read_file(f.folder / "a/metrics.jsonl");
    const auto refused = [&] {
        const std::string message = message_of([&] { f.run("a", StartMode::resume); });
        CHECK_THAT(message, ContainsSubstring("--allow-data-change"));
        CHECK(read_file(f.folder / "a/metrics.jsonl") == metrics);
        return message;
    };
    f.config.train.data_seed = 7;
    CHECK_THAT(refused(), ContainsSubstring("train.data_seed was 1234 and is 7"));
    f.config = before;
    f.config.train.sequence_length = 16;
    CHECK_THAT(refused(), ContainsSubstring("train.sequence_length was 32 and is 16"));
    CHECK(f.run("a", StartMode::resume, {}, DataChange::allowed) == RunStatus::finished);
    CHECK(f.metrics("a").back()["step"] == 20);
    const DataOrder order = newest(f, "a").data_order;
    CHECK(order.first_sample(10) == 36);
    CHECK(order.first_sample(11) == 0);
    CHECK(order.tokens_after(20) == 10 * 4 * 32 + 10 * 4 * 16);
    CHECK(order.samples_after(20) == 80);
    CHECK(f.run("a", StartMode::resume) == RunStatus::finished);  // the new order is the run's own now
}

TEST_CASE("a corpus replaced under its name is noticed, one prepared again is the same", "[cpu]") {
    RunFixture f;
    begin(f, "a");
    begin(f, "b");
    ThreadPool pool(1);
    const data::Tokenizer tokenizer = data::Tokenizer::load(f.config.data.tokenizer);
    const auto prepare = [&](const std::string& text) {
        write_file(f.folder / "text.txt", text);
        data::PrepareOptions options;
        options.inputs = {f.folder / "text.txt"};
        options.output = f.config.data.train;
        options.validation_output = f.config.data.validation;
        options.validation_fraction = 0.1;
        data::prepare(tokenizer, options, pool);
    };
    prepare(sample_text());
    CHECK(f.run("a", StartMode::resume) == RunStatus::finished);
    prepare("Another text. " + sample_text());
    CHECK_THAT(message_of([&] { f.run("b", StartMode::resume); }), ContainsSubstring("train.h5 holds another text"));
    CHECK(f.run("b", StartMode::resume, {}, DataChange::allowed) == RunStatus::finished);
    CHECK(newest(f, "b").data_order.first_sample(11) == 0);
}

TEST_CASE("checkpoints from before the data order was kept are resumed", "[cpu]") {
    RunFixture f;
    f.run("whole", StartMode::fresh);
    begin(f, "old");
    forget_data_order(train::RunDirectory(f.folder / "old").checkpoint_path(10));
    CHECK(newest(f, "old").data_order.empty());
    CHECK(f.run("old", StartMode::resume) == RunStatus::finished);
    CHECK(f.metrics("old") == f.metrics("whole"));
    CHECK(newest(f, "old").data_order.to_json() == newest(f, "whole").data_order.to_json());
}

TEST_CASE("a stable order: batch and length of the run may change, and sample i stays what it was", "[cpu]") {
    RunFixture f;
    f.config.data.order = data::OrderKind::stable;
    f.config.optimizer.learning_rate = f.config.optimizer.min_learning_rate = 0;  // a loss tells the samples only
    f.config.validation.every = 0;
    f.config.train.micro_batch = 1;
    const train::RunData data = train::RunData::open(f.config.data);
    const int64_t windows = (data.train.num_tokens() - 1) / 32;
    f.config.train.steps = windows / 4 + 25;  // into a second epoch
    f.run("whole", StartMode::fresh);
    f.config.train.steps = 20;
    begin(f, "changed");
    f.config.train.global_batch = 8;
    f.config.train.steps = 15 + windows / 8;
    CHECK(f.run("changed", StartMode::resume) == RunStatus::finished);
    const auto small = f.losses("whole"), large = f.losses("changed");
    for (size_t i = 0; i < 10; ++i) CHECK(large[i] == small[i]);
    for (size_t i = 10; i < large.size(); ++i)
        CHECK(large[i] == Approx((small[2 * i - 10] + small[2 * i - 9]) / 2).epsilon(1e-6));
    const DataOrder order = newest(f, "changed").data_order;
    CHECK(order.first_sample(11) == 40);
    CHECK(DataOrder::parse(order.to_json(), "again").to_json() == order.to_json());
    f.config.train.data_seed = 7;
    f.config.train.steps += 1;
    CHECK_THAT(message_of([&] { f.run("changed", StartMode::resume); }),
               ContainsSubstring("train.data_seed was 1234 and is 7"));
}

TEST_CASE("an order read from files trains as the one it was written from, and is known again", "[cpu]") {
    RunFixture f;
    f.config.validation.every = 0;
    f.run("made", StartMode::fresh);
    const train::RunData data = train::RunData::open(f.config.data);
    std::vector<int64_t> lengths;
    for (int64_t d = 0; d < data.train.num_documents(); ++d)
        lengths.push_back(data.train.document_offset(d + 1) - data.train.document_offset(d));
    const int64_t epochs = DataOrder(f.config, data.train).last_stretch().order.num_epochs;
    Triplet(lengths, epochs, 32, 1234).write(f.folder / "pile");
    f.config.data.order = data::OrderKind::npy;
    f.config.data.index = f.folder / "pile";
    begin(f, "read");
    Triplet(lengths, epochs, 32, 1234).write(f.folder / "moved");
    f.config.data.index = f.folder / "moved";
    CHECK(f.run("read", StartMode::resume) == RunStatus::finished);
    CHECK(f.metrics("read") == f.metrics("made"));
    const DataOrder order = newest(f, "read").data_order;
    CHECK(order.last_stretch().order.index == f.config.data.index);
    CHECK(DataOrder::parse(order.to_json(), "again").last_stretch().order == order.last_stretch().order);
    Triplet(lengths, epochs, 32, 5).write(f.folder / "moved");
    f.config.train.steps = 21;
    CHECK_THAT(message_of([&] { f.run("read", StartMode::resume); }), ContainsSubstring("moved holds another order"));
    f.config.train.steps = 100000;
    CHECK_THAT(message_of([&] { DataOrder(f.config, data.train); }), ContainsSubstring("moved holds "));
    f.config.data.index = "";
    CHECK_THAT(message_of([&] { f.run("read", StartMode::resume); }), ContainsSubstring("data.index"));
}

TEST_CASE("Megatron-Core's order is kept with whether its last epoch is apart", "[cpu]") {
    RunFixture f;
    f.config.data.order = data::OrderKind::mcore;
    const train::RunData data = train::RunData::open(f.config.data);
    f.config.train.steps = (data.train.num_tokens() - 1) / 32 / 4 + 3;  // little of a second epoch
    const DataOrder order(f.config, data.train);
    CHECK(order.last_stretch().order.last_epoch_apart);
    CHECK(DataOrder::parse(order.to_json(), "again").last_stretch().order == order.last_stretch().order);
}

TEST_CASE("a damaged data order is the user's to hear of", "[cpu]") {
    const RunFixture f;
    const train::RunData data = train::RunData::open(f.config.data);
    const std::string good = DataOrder(f.config, data.train).to_json();
    const auto changed = [&](const std::string& from, const std::string& to) {
        std::string bad = good;
        REQUIRE(bad.find(from) != std::string::npos);
        bad.replace(bad.find(from), from.size(), to);
        return message_of([&] { DataOrder::parse(bad, "file.json"); });
    };
    for (const auto& [from, to] : {std::pair<std::string, std::string>{"\"first_step\": 1", "\"first_step\": 2"},
                                   {"\"first_step\": 1", "\"first_step\": \"1\""},
                                   {"\"global_batch\": 4", "\"global_batch\": 0"},
                                   {"\"epochs\"", "\"epoch\""},
                                   {"}", ""},
                                   {"\"stretches\"", "\"other\""}})
        CHECK_THAT(changed(from, to), ContainsSubstring("file.json: not a data order ("));
    CHECK_THAT(message_of([] { DataOrder::parse("{\"stretches\": []}", "x"); }), ContainsSubstring("no stretches"));
}

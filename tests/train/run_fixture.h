// A small run on real English that fits in a test: tokenizer, token stores and config in a temporary folder.
#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/hdf5_file.h"
#include "base/thread_pool.h"
#include "data/bpe_trainer.h"
#include "data/corpus.h"
#include "data/prepare.h"
#include "tests/base/temporary_folder.h"
#include "tests/kernels/test_device.h"
#include "train/run_config.h"
#include "train/trainer.h"

namespace ballast::test {

/// The project's own licence, four times over: real words, always at hand.
inline std::string sample_text() {
    // Programs that were moved to another machine say where their sources are.
    const char* sources = std::getenv("BALLAST_TEST_SOURCES");
    const std::string licence = read_file(std::string(sources != nullptr ? sources : BALLAST_SOURCE_DIR) + "/LICENSE");
    std::string text;
    for (int i = 0; i < 4; ++i) text += licence;
    return text;
}

struct RunFixture {
    TemporaryFolder folder;
    train::RunConfig config;
    Device device = test_device();

    RunFixture() {
        ThreadPool pool(1);
        write_file(folder / "text.txt", sample_text());
        data::BpeTrainer trainer({.vocab_size = 300});
        trainer.add_texts({data::TextPiece{sample_text(), "text.txt", 0, true}}, pool);
        const data::Tokenizer tokenizer(trainer.train());
        tokenizer.save(folder / "tokenizer.json");
        data::PrepareOptions prepare;
        prepare.inputs = {folder / "text.txt"};
        prepare.output = folder / "train.h5";
        prepare.validation_output = folder / "validation.h5";
        prepare.validation_fraction = 0.1;
        data::prepare(tokenizer, prepare, pool);

        config.model.vocab_size = 384;
        config.model.hidden_size = 32;
        config.model.num_layers = 2;
        config.model.num_heads = 2;
        config.model.max_position_embeddings = 32;
        config.data = {folder / "train.h5", folder / "validation.h5", folder / "tokenizer.json"};
        config.train.sequence_length = 32;
        config.train.global_batch = 4;
        config.train.micro_batch = 2;
        config.train.steps = 20;
        config.train.dtype = Dtype::f32;
        config.train.threads = 1;
        config.optimizer.learning_rate = 3e-3;
        config.optimizer.min_learning_rate = 3e-4;
        config.optimizer.warmup = 0.1;
        config.checkpoint = {5, false, 2, 0};
        config.validation = {10, 2};
        config.sample.every = 0;
    }

    /// Resolves and trains in FOLDER/name; returns how it ended.
    train::RunStatus run(const std::string& name, train::StartMode mode, train::TrainObserver observer = {},
                         train::DataChange change = train::DataChange::refused) {
        Communicator alone;
        return run_as_rank(alone, name, mode, std::move(observer), change);
    }

    /// The same as one of several ranks.
    train::RunStatus run_as_rank(Communicator& ranks, const std::string& name, train::StartMode mode,
                                 train::TrainObserver observer = {},
                                 train::DataChange change = train::DataChange::refused) const {
        return run_config_as_rank(config, ranks, name, mode, std::move(observer), change);
    }

    /// The same with a configuration of the rank's own.
    train::RunStatus run_config_as_rank(train::RunConfig resolved, Communicator& ranks, const std::string& name,
                                        train::StartMode mode, train::TrainObserver observer = {},
                                        train::DataChange change = train::DataChange::refused) const {
        train::RunData data = train::RunData::open(resolved.data);
        train::resolve_vocabulary(resolved.model, data.tokenizer.vocab_size());
        resolved.validate();
        Context context(device, static_cast<int>(resolved.train.threads), resolved.train.gemm);
        context.connect(ranks);
        train::RunDirectory directory(folder / name);
        const train::Distribution distribution(resolved, ranks);
        train::Trainer trainer(context, resolved, data, directory, std::move(observer), distribution);
        return trainer.run(mode, change);
    }

    /// Every tensor of the newest checkpoint, as bytes.
    std::string newest_checkpoint(const std::string& name) const {
        const train::RunDirectory directory(folder / name);
        const Hdf5Reader file(directory.checkpoint_path(directory.checkpoint_steps().back()));
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

    /// Lines of metrics.jsonl without what a clock decides.
    std::vector<nlohmann::json> metrics(const std::string& name) const {
        std::vector<nlohmann::json> lines;
        std::istringstream text(read_file(folder / (name + "/metrics.jsonl")));
        for (std::string line; std::getline(text, line);) {
            lines.push_back(nlohmann::json::parse(line));
            lines.back().erase("seconds");
            lines.back().erase("tokens_per_second");
        }
        return lines;
    }

    /// The losses of the steps, as printed to the last bit.
    std::vector<double> losses(const std::string& name) const {
        std::vector<double> out;
        for (const auto& line : metrics(name))
            if (line.contains("loss")) out.push_back(line["loss"].get<double>());
        return out;
    }
};

/// Stops the run after `step` the way Ctrl-C does.
inline train::TrainObserver interrupt_after(int64_t step) {
    train::TrainObserver observer;
    observer.step = [step](const train::StepMetrics& m) {
        if (m.step == step) std::raise(SIGINT);
    };
    return observer;
}

}  // namespace ballast::test

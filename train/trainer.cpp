#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <sstream>

#include "base/atomic_file.h"
#include "base/config_toml.h"
#include "base/interrupt.h"
#include "infer/generate.h"
#include "model/sink_tokens.h"

namespace ballast::train {
namespace {

bool multiple_of(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

/// Cuts windows of T + 1 tokens into the inputs and targets of a pass.
void set_windows(model::Pass& pass, const model::ModelConfig& config, const std::vector<int32_t>& windows) {
    const auto T = static_cast<size_t>(pass.length()), B = static_cast<size_t>(pass.batch());
    std::vector<int32_t> ids(B * T), targets(B * T);
    for (size_t b = 0; b < B; ++b)
        model::fill_sample(std::span(windows).subspan(b * (T + 1), T + 1), config, std::span(ids).subspan(b * T, T),
                           std::span(targets).subspan(b * T, T));
    pass.set_tokens(ids, targets);
}

void require_same_tokenizer(const data::TokenStore& store, const data::Tokenizer& tokenizer, const DataConfig& config) {
    if (store.tokenizer_hash() != tokenizer.hash())
        throw UserError(fmt::format("{} was made with another tokenizer than {}; prepare it again with this one",
                                    store.path(), config.tokenizer));
}

}  // namespace

void resolve_vocabulary(model::ModelConfig& config, int64_t tokenizer_size) {
    constexpr int64_t kMultiple = 128;
    if (config.vocab_size < tokenizer_size)
        throw UserError(fmt::format("model.vocab_size = {}, but the tokenizer has {} ids; raise it to at least {}",
                                    config.vocab_size, tokenizer_size,
                                    (tokenizer_size + kMultiple - 1) / kMultiple * kMultiple));
    if (config.num_sink_tokens == 0) return;
    if (config.sink_token_id < 0) config.sink_token_id = tokenizer_size;
    if (config.sink_token_id < tokenizer_size)
        throw UserError(fmt::format("model.sink_token_id = {} is one of the tokenizer's {} ids; leave it at -1",
                                    config.sink_token_id, tokenizer_size));
    const int64_t needed = config.sink_token_id + config.num_sink_tokens;
    if (needed > config.vocab_size) config.vocab_size = (needed + kMultiple - 1) / kMultiple * kMultiple;
}

RunData RunData::open(const DataConfig& config) {
    RunData data{data::Tokenizer::load(config.tokenizer), data::TokenStore(config.train), nullptr};
    require_same_tokenizer(data.train, data.tokenizer, config);
    if (!config.validation.empty()) {
        data.validation = std::make_unique<data::TokenStore>(config.validation);
        require_same_tokenizer(*data.validation, data.tokenizer, config);
    }
    return data;
}

Trainer::Trainer(Context& context, const RunConfig& config, RunData& data, RunDirectory& directory,
                 TrainObserver observer)
    : context_(context),
      config_(config),
      data_(data),
      directory_(directory),
      observer_(std::move(observer)),
      schedule_(config.schedule()),
      sampler_(data.train, config.train.sequence_length, static_cast<uint32_t>(config.train.data_seed),
               config.train.steps, config.train.global_batch),
      model_(context, config.model, config.train.dtype),
      optimizer_(context, model_.weights(),
                 {config.optimizer.beta1, config.optimizer.beta2, config.optimizer.eps, config.optimizer.weight_decay},
                 config.optimizer.clip_norm),
      step_(context, model_, optimizer_, config),
      loss_buffer_(context.allocate(sizeof(double))) {
    if (config.train.dtype == Dtype::f16) scaler_.emplace(config.fp16);
    if (data.validation)
        validation_pass_ = std::make_unique<model::Pass>(context, model_, model::PassKind::forward,
                                                         config.samples_per_pass(), config.train.sequence_length);
}

int64_t Trainer::start(StartMode mode) {
    directory_.create_and_lock();
    if (mode == StartMode::resume)
        if (const auto step = directory_.newest_valid_checkpoint(observer_.warning)) {
            const std::string path = directory_.checkpoint_path(*step);
            const CheckpointInfo saved = read_checkpoint_info(path);
            if (saved.tokenizer_hash != data_.tokenizer.hash())
                throw UserError(
                    fmt::format("{} was trained with another tokenizer than {}", path, config_.data.tokenizer));
            warn_of_changes(saved.config);
            load_checkpoint(path, context_, model_.weights(), &optimizer_);
            steps_skipped_ = saved.steps_skipped;
            if (scaler_ && saved.loss_scaler) scaler_->restore(*saved.loss_scaler);
            directory_.cut_back("metrics.jsonl", *step);
            directory_.cut_back("samples.jsonl", *step);
            open_logs();
            last_saved_ = *step;
            return *step;
        }
    if (mode == StartMode::resume && !directory_.checkpoint_steps().empty())
        throw UserError(fmt::format("every checkpoint in {} is damaged; restore one, or start again with --overwrite",
                                    directory_.path()));
    if (directory_.has_run()) {
        if (mode == StartMode::fresh)
            throw UserError(fmt::format(
                "{} already holds a run; continue it with --resume, replace it with --overwrite, or choose another "
                "--out",
                directory_.path()));
        directory_.clear();
    }
    model_.weights().initialise(context_, static_cast<uint64_t>(config_.train.seed));
    open_logs();
    write_file(directory_.file("config.toml"), to_toml(config_));
    data_.tokenizer.save(directory_.file("tokenizer.json"));
    if (checkpoint_due(config_.checkpoint, 0, config_.train.steps)) save(0);
    return 0;
}

void Trainer::warn_of_changes(const RunConfig& saved) const {
    std::istringstream then(to_toml(saved)), now(to_toml(config_));
    std::string section, was, is;
    while (std::getline(then, was) && std::getline(now, is)) {
        if (is.starts_with('[')) section = is;
        if (was != is)
            observer_.warning(
                fmt::format("the checkpoint was made with {} {}; this run continues with {}", section, was, is));
    }
}

void Trainer::open_logs() {
    metrics_ = std::make_unique<JsonLines>(directory_.file("metrics.jsonl"));
    samples_ = std::make_unique<JsonLines>(directory_.file("samples.jsonl"));
}

RunStatus Trainer::run(StartMode mode) {
    steps_done_ = start(mode);
    try {
        return run_steps();
    } catch (...) {
        try {
            directory_.set_status(RunStatus::failed, steps_done_);
        } catch (const UserError&) {  // the disk may be what failed
        }
        throw;
    }
}

RunStatus Trainer::run_steps() {
    const int64_t last = config_.train.steps;
    directory_.set_status(RunStatus::running, steps_done_);
    observer_.started(steps_done_);
    while (steps_done_ < last) {
        const StepMetrics metrics = train_step(steps_done_ + 1);
        const int64_t step = ++steps_done_;
        metrics_->append(metrics);
        observer_.step(metrics);
        if (validation_pass_ && (multiple_of(step, config_.validation.every) || step == last)) validate(step);
        if (multiple_of(step, config_.sample.every)) sample(step);
        const bool stop = interrupted() && step < last;
        if (stop || checkpoint_due(config_.checkpoint, step, last)) save(step);
        if (stop) {
            directory_.set_status(RunStatus::interrupted, step);
            return RunStatus::interrupted;
        }
    }
    directory_.set_status(RunStatus::finished, last);
    return RunStatus::finished;
}

void Trainer::load_tokens(int64_t step) {
    const int64_t T = config_.train.sequence_length, batch = config_.train.global_batch;
    std::vector<int32_t> windows(static_cast<size_t>(batch * (T + 1)));
    for (int64_t i = 0; i < batch; ++i) sampler_.sample((step - 1) * batch + i, windows.data() + i * (T + 1));
    step_.load(windows);
    loaded_step_ = step;
}

StepMetrics Trainer::train_step(int64_t step) {
    const auto begin = std::chrono::steady_clock::now();
    const int64_t update = step - steps_skipped_;
    const double rate = schedule_.of_update(update), loss_scale = scaler_ ? scaler_->scale() : 1;
    if (loaded_step_ != step) {
        load_tokens(step);
        context_.synchronise();
    }
    optimizer_.set_scalars(update, rate, loss_scale);
    step_.run();
    if (step < config_.train.steps) load_tokens(step + 1);  // while a GPU is at work
    context_.synchronise();
    const double loss = step_.loss();
    const StepResult result = optimizer_.result(model_.weights());
    if (!(scaler_ ? scaler_->update(!result.applied) : result.applied)) fail_non_finite(step, loss, result);
    if (!result.applied) ++steps_skipped_;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const int64_t tokens_a_step = config_.train.global_batch * config_.train.sequence_length;
    return {step,
            loss,
            result.grad_norm,
            rate,
            step * tokens_a_step,
            seconds,
            static_cast<double>(tokens_a_step) / seconds,
            scaler_ ? std::optional(loss_scale) : std::nullopt,
            !result.applied};
}

void Trainer::fail_non_finite(int64_t step, double loss, const StepResult& result) {
    const std::string what =
        result.non_finite_parameter.empty()
            ? fmt::format("the loss is {}", loss)
            : fmt::format("the gradient of {} is not finite (loss {})", result.non_finite_parameter, loss);
    const std::string saved =
        last_saved_ >= 0 ? fmt::format("the last good checkpoint is {}", directory_.checkpoint_path(last_saved_))
                         : "no checkpoint was saved yet";
    throw RunError(fmt::format(
        "step {}: {}{}; stopped before the update. Lower optimizer.learning_rate or optimizer.clip_norm and --resume; "
        "{}",
        step, what, scaler_ ? fmt::format(", at the smallest loss scale ({})", scaler_->scale()) : "", saved));
}

void Trainer::validate(int64_t step) {
    const int64_t T = config_.train.sequence_length, B = validation_pass_->batch();
    const data::SequentialSampler windows_of(*data_.validation, T);
    const int64_t batches = std::min(config_.validation.batches, windows_of.size() / B);
    if (batches == 0) {
        if (step == config_.train.steps || step == config_.validation.every)
            observer_.warning(fmt::format("{} is shorter than one validation batch of {} x {} tokens; no validation",
                                          data_.validation->path(), B, T + 1));
        return;
    }
    double total = 0;
    std::vector<int32_t> windows(static_cast<size_t>(B * (T + 1)));
    for (int64_t batch = 0; batch < batches; ++batch) {
        for (int64_t b = 0; b < B; ++b) windows_of.sample(batch * B + b, windows.data() + b * (T + 1));
        set_windows(*validation_pass_, config_.model, windows);
        validation_pass_->forward();
        const Tensor sum(loss_buffer_.data(), Dtype::f64, {1});
        ops::sum(context_, sum, validation_pass_->losses());
        double loss;
        context_.copy_to_host(&loss, sum);
        total += loss;
    }
    const double loss = total / static_cast<double>(batches * B * model::targets_per_sample(config_.model, T));
    metrics_->append_validation(step, loss);
    observer_.validation(step, loss);
}

void Trainer::sample(int64_t step) {
    const std::string& prompt = config_.sample.prompt;
    std::vector<int32_t> ids;
    for (uint32_t id : data_.tokenizer.encode(prompt)) ids.push_back(static_cast<int32_t>(id));
    if (ids.empty()) ids.push_back(static_cast<int32_t>(data_.tokenizer.end_of_text_id().value_or(0)));
    const auto out =
        infer::generate(context_, model_, ids, data_.tokenizer.vocab_size(),
                        {config_.sample.tokens, config_.sample.temperature, static_cast<uint64_t>(config_.train.seed)});
    std::vector<uint32_t> generated;
    for (int32_t id : out)
        if (data_.tokenizer.token_bytes(static_cast<uint32_t>(id))) generated.push_back(static_cast<uint32_t>(id));
    const std::string text = data_.tokenizer.decode(generated);
    samples_->append_sample(step, prompt, text);
    observer_.sample(step, prompt + text);
}

void Trainer::save(int64_t step) {
    const std::string path = directory_.checkpoint_path(step);
    save_checkpoint(path,
                    {step, steps_skipped_, step * config_.train.global_batch * config_.train.sequence_length, config_,
                     data_.tokenizer.hash(), scaler_ ? std::optional(scaler_->state()) : std::nullopt},
                    context_, model_.weights(), optimizer_);
    last_saved_ = step;
    for (int64_t old : checkpoints_to_remove(config_.checkpoint, directory_.checkpoint_steps()))
        std::filesystem::remove(directory_.checkpoint_path(old));
    observer_.checkpoint(path);
}

}  // namespace ballast::train

#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <utility>

#include "base/atomic_file.h"
#include "base/config_toml.h"
#include "base/interrupt.h"
#include "train/same_run.h"

namespace ballast::train {
namespace {

bool is_due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

/// Stores that do not say which tokenizer made them are taken to be this one's.
void require_same_tokenizer(data::TokenStore& store, const data::Tokenizer& tokenizer, const DataConfig& config) {
    if (store.tokenizer_hash().empty()) return store.assume_tokenizer(tokenizer);
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
                 TrainObserver observer, const Distribution& distribution)
    : context_(context),
      config_(config),
      data_(data),
      directory_(directory),
      distribution_(distribution),
      observer_(std::move(observer)),
      schedule_(config.schedule()),
      model_(context, config.model, config.train.dtype),
      optimizer_(context, model_.weights(),
                 {config.optimizer.beta1, config.optimizer.beta2, config.optimizer.eps, config.optimizer.weight_decay},
                 config.optimizer.clip_norm, distribution),
      step_(context, model_, optimizer_, config),
      spikes_(config.spikes()) {
    step_.set_timeline(&timeline_);
    if (config.train.dtype == Dtype::f16) scaler_.emplace(config.fp16);
    if (config.checkpoint.background && config.checkpoint.any_before_the_end())
        background_.emplace(context, model_.weights(), optimizer_);
    if (!ranks().is_first()) return;
    if (data.validation) validation_.emplace(context, model_, *data.validation, config);
    if (config.sample.every > 0) sample_writer_.emplace(context, model_, data.tokenizer.vocab_size());
}

void Trainer::keep_timeline(size_t updates) {
    require(context_.device() == Device::cpu, "a timeline of work that is only queued");
    timeline_.keep(updates);
}

int64_t Trainer::start(StartMode mode, DataChange change) {
    const Span span = at(Activity::start);
    int64_t step = -1;
    if (ranks().is_first()) step = step_to_resume(mode);
    {
        const Span agreement = at(Activity::agree_on_start);
        ranks().broadcast(std::as_writable_bytes(std::span(&step, 1)));
    }
    return step < 0 ? start_anew(mode) : resume(step, change);
}

int64_t Trainer::step_to_resume(StartMode mode) {
    if (mode != StartMode::resume) return -1;
    const Span span = at(Activity::load);
    if (const auto step = directory_.newest_valid_checkpoint([this](const std::string& text) { warn(text); }))
        return *step;
    if (!directory_.checkpoint_steps().empty())
        throw UserError(fmt::format("every checkpoint in {} is damaged; restore one, or start again with --overwrite",
                                    directory_.path()));
    if (const auto status = directory_.status(); status == RunStatus::finished || status == RunStatus::interrupted)
        throw UserError(
            fmt::format("{} says that its run was saved, but it has no checkpoints; put them back into {}, or "
                        "start again with --overwrite, which removes metrics and measurements too",
                        directory_.file("status.json"), directory_.file("checkpoints")));
    return -1;
}

void Trainer::write_run_files() {
    open_logs();
    write_file(directory_.file("config.toml"), to_toml(config_));
    write_file(directory_.file("data_order.json"), order_.to_json());
}

int64_t Trainer::start_anew(StartMode mode) {
    const bool writes = ranks().is_first();
    if (writes && directory_.has_run() && mode == StartMode::fresh)
        throw UserError(fmt::format(
            "{} already holds a run; continue it with --resume, replace it with --overwrite, or choose another --out",
            directory_.path()));
    order_ = DataOrder(config_, data_.train);
    order_samples();
    if (writes && directory_.has_run()) directory_.clear();
    model_.weights().initialise(context_, static_cast<uint64_t>(config_.train.seed));
    if (writes) {
        write_run_files();
        data_.tokenizer.save(directory_.file("tokenizer.json"));
    }
    if (checkpoint_due(config_.checkpoint, 0, config_.train.steps)) save(0);
    return 0;
}

int64_t Trainer::resume(int64_t step, DataChange change) {
    const std::string path = directory_.checkpoint_path(step);
    const CheckpointInfo saved = read_checkpoint_info(path);
    if (saved.tokenizer_hash != data_.tokenizer.hash())
        throw UserError(fmt::format("{} was trained with another tokenizer than {}", path, config_.data.tokenizer));
    if (step > config_.train.steps)
        throw UserError(fmt::format(
            "{} is at step {}, past the last of train.steps = {}; set train.steps to {} or more, as the run "
            "was started, or train anew in another --out",
            path, step, config_.train.steps, step));
    order_ = saved.data_order.empty() ? DataOrder(saved.config, data_.train) : saved.data_order;
    order_.resume(step, config_, data_.train, change == DataChange::allowed);
    order_samples();
    warn_of_changes(saved);
    {
        const Span loading = at(Activity::load);
        load_checkpoint(path, context_, model_.weights(), &optimizer_);
    }
    restore(saved);
    if (saved.spikes) spikes_.restore(*saved.spikes);
    {
        const Span agreement = at(Activity::agree_on_loaded);
        ranks().barrier();  // nobody reads the file any more
    }
    if (ranks().is_first()) {
        directory_.cut_back("metrics.jsonl", step);
        directory_.cut_back("samples.jsonl", step);
        write_run_files();
        keep_what_was_protected();
        // A kill may have come between the save and this.
        if (const std::string warning = remove_old_checkpoints(step); !warning.empty()) warn(warning);
    }
    last_saved_ = step;
    return step;
}

void Trainer::restore(const CheckpointInfo& saved) {
    steps_skipped_ = saved.steps_skipped;
    if (scaler_ && saved.loss_scaler) scaler_->restore(*saved.loss_scaler);
}

void Trainer::order_samples() {
    {
        const Span agreement = at(Activity::agree_on_order);
        require_same_order(ranks(), order_);
    }
    const Span span = at(Activity::order_samples);
    const data::SampleOrder& order = order_.last_stretch().order;
    constexpr size_t kNoticed = 80'000'000;  // bytes, of 20 million samples: seconds
    if (data::Sampler::bytes(data_.train, order) >= kNoticed)
        show([&] {
            observer_.note(fmt::format("putting {} samples into their order, about a second for ten million",
                                       data::Sampler::size(data_.train, order)));
        });
    sampler_.emplace(data_.train, order);
}

void Trainer::warn_of_changes(const CheckpointInfo& saved) {
    for (const ConfigDifference& line : differing_lines(to_toml(as_saved(saved.config)), to_toml(as_saved(config_))))
        warn(fmt::format("the checkpoint was made with {} {}; this run continues with {}", line.section, line.left,
                         line.right));
    const bool same_setting = saved.config.train.reduction_lanes == config_.train.reduction_lanes;
    if (same_setting && saved.lanes && *saved.lanes != distribution_.lanes())
        warn(
            fmt::format("the number of ranks was {} when the checkpoint was made and is {}; as train.reduction_lanes = "
                        "1, gradients are added up in another order and results are rounded differently (with S lanes "
                        "they are the same on 1 to S ranks)",
                        *saved.lanes, distribution_.lanes()));
}

void Trainer::open_logs() {
    metrics_ = std::make_unique<JsonLines>(directory_.file("metrics.jsonl"));
    samples_ = std::make_unique<JsonLines>(directory_.file("samples.jsonl"));
}

RunStatus Trainer::run(StartMode mode, DataChange change) {
    require_same_run(ranks(), config_, data_.tokenizer.hash(), data_.train);
    if (ranks().is_first()) {
        directory_.create_and_lock();
        HeartbeatFolder(directory_.path()).clear();
    }
    ranks().barrier();
    watch_for_hangs();
    observer_.watched();
    const RunStatus status = run_watched(mode, change);
    hang_watch_.reset();
    return status;
}

void Trainer::watch_for_hangs() {
    if (config_.train.hang_timeout_seconds <= 0) return;
    hang_watch_.emplace(timeline_.places(), ranks(), directory_.path(),
                        static_cast<double>(config_.train.hang_timeout_seconds),
                        end_of_hang_ ? end_of_hang_ : end_all_ranks(ranks()));
    {
        // All ranks or none: one without heartbeats would be taken for the cause while the others wait for it.
        const Span agreement = at(Activity::agree_on_start);
        if (!ranks().any(!hang_watch_->is_watching())) return;
    }
    hang_watch_.reset();
    warn(
        "the system refuses the threads that watch for hangs; training goes on, and should it hang it will not end by "
        "itself");
}

RunStatus Trainer::run_watched(StartMode mode, DataChange change) {
    steps_done_ = start(mode, change);
    try {
        return run_steps();
    } catch (...) {
        if (background_) background_->wait();  // what it saves is good
        try {
            set_status(RunStatus::failed, steps_done_);
        } catch (const UserError&) {  // the disk may be what failed
        }
        throw;
    }
}

void Trainer::set_status(RunStatus status, int64_t step) {
    if (!ranks().is_first()) return;
    sync_logs();
    directory_.set_status(status, step);
}

bool Trainer::validation_due(int64_t step) const {
    return validation_ && (is_due(step, config_.validation.every) || step == config_.train.steps);
}

bool Trainer::sample_due(int64_t step) const { return is_due(step, config_.sample.every); }

RunStatus Trainer::run_steps() {
    const int64_t last = config_.train.steps;
    const bool is_first = ranks().is_first();
    set_status(RunStatus::running, steps_done_);
    show([&] { observer_.started(steps_done_); });
    if (is_first) catch_up(steps_done_);
    while (steps_done_ < last) {
        const StepMetrics metrics = train_step(steps_done_ + 1);
        if (!metrics.why_skipped.empty() && config_.train.spike_action == SpikeAction::rollback && roll_back(metrics))
            continue;
        const int64_t step = ++steps_done_;
        if (is_first) note_down([&] { metrics_->append(metrics); });
        show([&] { observer_.step(metrics); });
        if (background_) take_note(background_->poll());
        const bool stop = wanted_to_stop() && step < last;
        if (stop || step == last)
            save(step);
        else if (checkpoint_due(config_.checkpoint, step, last))
            try_to_save(step);
        if (stop) {
            set_status(RunStatus::interrupted, step);
            return RunStatus::interrupted;
        }
        if (is_first && validation_due(step)) validate(step);
        if (is_first && sample_due(step)) sample(step);
    }
    set_status(RunStatus::finished, last);
    const Span span = at(Activity::agree_on_end);  // until rank 0 is done, it is watched by all
    ranks().barrier();
    return RunStatus::finished;
}

bool Trainer::wanted_to_stop() {
    const Span span = at(Activity::agree_to_stop);
    return ranks().any(interrupted());
}

void Trainer::show(const std::function<void()>& tell) {
    const Span span = at(Activity::show);
    tell();
}

void Trainer::warn(const std::string& text) {
    show([&] { observer_.warning(text); });
}

void Trainer::catch_up(int64_t step) {
    if (step == 0) return;
    if (validation_due(step) && !directory_.has_line("metrics.jsonl", step, "validation_loss")) validate(step);
    if (sample_due(step) && !directory_.has_line("samples.jsonl", step, "text")) sample(step);
}

void Trainer::note_down(const std::function<void()>& append) {
    const Span span = at(Activity::metrics);
    try {
        append();
        lines_lost_ = false;
    } catch (const UserError& error) {
        if (!std::exchange(lines_lost_, true))
            warn(fmt::format("{}; training goes on, lines are missing from step {} on", error.what(), steps_done_));
    }
}

void Trainer::validate(int64_t step) {
    const Span span = at(Activity::validation);
    const double loss = validation_->loss([this] { timeline_.places().move(); });
    note_down([&] { metrics_->append_validation(step, loss); });
    show([&] { observer_.validation(step, loss); });
}

void Trainer::sample(int64_t step) {
    const Span span = at(Activity::sample);
    const std::string& prompt = config_.sample.prompt;
    std::vector<int32_t> ids;
    for (uint32_t id : data_.tokenizer.encode(prompt)) ids.push_back(static_cast<int32_t>(id));
    if (ids.empty()) ids.push_back(static_cast<int32_t>(data_.tokenizer.end_of_text_id().value_or(0)));
    const infer::Answer answer = sample_writer_->write(ids, config_.sample, static_cast<uint64_t>(config_.train.seed),
                                                       [this] { timeline_.places().move(); });
    if (answer.finish == infer::Finish::not_finite)
        warn(fmt::format("the sample of step {} ends where the model's logits are not finite", step));
    std::vector<uint32_t> tokens;
    const auto append = [&](int32_t id) {
        if (data_.tokenizer.token_bytes(static_cast<uint32_t>(id))) tokens.push_back(static_cast<uint32_t>(id));
    };
    // Decoded behind the prompt, as a tokenizer may drop the space at the beginning of a text.
    for (const int32_t id : ids) append(id);
    const size_t prompt_bytes = data_.tokenizer.decode(tokens).size();
    for (const infer::SampledToken& token : answer.tokens) append(token.id);
    std::string text = data_.tokenizer.decode(tokens);
    text.erase(0, prompt_bytes);
    note_down([&] { samples_->append_sample(step, prompt, text); });
    show([&] { observer_.sample(step, prompt + text); });
}

}  // namespace ballast::train

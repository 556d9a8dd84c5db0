// One step of the loop: its samples, its update, and the handling of an update that cannot or must not be applied.
#include <chrono>
#include <fmt/format.h>
#include <utility>

#include "base/error.h"
#include "train/trainer.h"

namespace ballast::train {

void Trainer::load_tokens(int64_t step) {
    const Span span = at(Activity::read_samples);
    const int64_t T = config_.train.sequence_length, first = order_.first_sample(step);
    const Range own = step_.samples();
    std::vector<int32_t> windows(static_cast<size_t>(own.size() * (T + 1)));
    std::vector<int32_t> document_starts(config_.data.document_mask ? windows.size() : 0);
    for (int64_t i = 0; i < own.size(); ++i)
        sampler_->sample(first + own.begin + i, windows.data() + i * (T + 1),
                         document_starts.empty() ? nullptr : document_starts.data() + i * (T + 1));
    step_.load(windows, document_starts);
    loaded_step_ = step;
}

StepMetrics Trainer::train_step(int64_t step) {
    const auto begin = std::chrono::steady_clock::now();
    timeline_.places().begin_step(step);
    const int64_t update = step - steps_skipped_;
    const double rate = schedule_.at_update(update), loss_scale = scaler_ ? scaler_->scale() : 1;
    if (loaded_step_ != step) {
        load_tokens(step);
        context_.synchronise();
    }
    const SpikeGuard::Limits limits = spikes_.limits();
    optimizer_.set_scalars(update, rate, loss_scale, {limits.loss * step_.num_targets(), limits.norm});
    step_.run();
    if (step < config_.train.steps) load_tokens(step + 1);  // while a GPU is at work
    wait_for_device();
    const StepResult result = optimizer_.result(model_.weights());
    StepMetrics metrics;
    metrics.step = step;
    metrics.loss = step_.loss();
    metrics.grad_norm = result.grad_norm;
    metrics.learning_rate = rate;
    metrics.tokens = order_.tokens_after(step);
    if (scaler_) metrics.loss_scale = loss_scale;
    judge_update(metrics, result, limits);
    if (const StepMetrics spike = std::exchange(rolled_back_, {}); spike.step > 0) {
        metrics.rolled_back_from = spike.step;
        metrics.why_rolled_back = spike.why_skipped;
    }
    metrics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const int64_t tokens_a_step = config_.train.global_batch * config_.train.sequence_length;
    metrics.tokens_per_second = static_cast<double>(tokens_a_step) / metrics.seconds;
    return metrics;
}

void Trainer::judge_update(StepMetrics& metrics, const StepResult& result, const SpikeGuard::Limits& limits) {
    const bool overflow = scaler_ && !result.finite;
    if (scaler_ && !scaler_->update(overflow)) fail_non_finite(metrics.step, metrics.loss, result);
    if (result.applied()) return spikes_.accept(metrics.step, metrics.loss, metrics.grad_norm);
    metrics.skipped = true;
    ++steps_skipped_;
    if (overflow) return;
    if (!spikes_.acts()) fail_non_finite(metrics.step, metrics.loss, result);
    metrics.why_skipped = why_spike(metrics.loss, metrics.grad_norm, limits);
    spikes_.skip();
    warn(fmt::format("step {}: a spike ({}), its update is not applied", metrics.step, metrics.why_skipped));
}

bool Trainer::roll_back(const StepMetrics& spike) {
    wait_for_save();
    int64_t step = -1;
    std::string why_none = "there is no checkpoint yet";
    try {
        const Span span = at(Activity::load);
        // Later ones, which a resume could not read, are of steps that this run has not come to.
        if (ranks().is_first())
            step = directory_.newest_valid_checkpoint([this](const std::string& text) { warn(text); }, steps_done_)
                       .value_or(-1);
    } catch (const UserError& error) {
        why_none = error.what();
    }
    {
        const Span span = at(Activity::agree_on_start);
        ranks().broadcast(std::as_writable_bytes(std::span(&step, 1)));
    }
    if (step < 0 || !order_.skip(step, spike.step, config_.train.steps, data_.train)) {
        warn(fmt::format("step {}: not rolled back, as {}", spike.step,
                         step < 0 ? why_none : "the samples that are left would not last to the end"));
        return false;
    }
    const std::string path = directory_.checkpoint_path(step);
    {
        const Span span = at(Activity::load);
        load_checkpoint(path, context_, model_.weights(), &optimizer_);
        const CheckpointInfo saved = read_checkpoint_info(path);
        restore(saved);
        spikes_.roll_back(spike.step, saved.spikes.value_or(SpikeState{}));
    }
    {
        const Span span = at(Activity::agree_on_loaded);
        ranks().barrier();
    }
    if (ranks().is_first()) {
        directory_.cut_back("metrics.jsonl", step);
        directory_.cut_back("samples.jsonl", step);
        write_run_files();
    }
    warn(fmt::format("rolled back from step {} to {}; goes on with the batch after the spike", spike.step, path));
    steps_done_ = last_saved_ = step;
    loaded_step_ = 0;
    rolled_back_ = spike;
    return true;
}

void Trainer::wait_for_device() {
    const Span span = at(Activity::device);
    context_.synchronise();
}

std::string Trainer::way_back() const {
    const std::string advice = "Lower optimizer.learning_rate or optimizer.clip_norm and --resume; ";
    if (!ranks().is_first()) return advice + "rank 0 knows the last good checkpoint";
    return advice + (last_saved_ >= 0
                         ? fmt::format("the last good checkpoint is {}", directory_.checkpoint_path(last_saved_))
                         : std::string("no checkpoint was saved yet"));
}

void Trainer::fail_non_finite(int64_t step, double loss, const StepResult& result) {
    wait_for_save();
    const std::string what =
        result.non_finite_parameter.empty()
            ? fmt::format("the loss is {}", loss)
            : fmt::format("the gradient of {} is not finite (loss {})", result.non_finite_parameter, loss);
    throw RunError(fmt::format("step {}: {}{}; stopped before the update. {}", step, what,
                               scaler_ ? fmt::format(", at the smallest loss scale ({})", scaler_->scale()) : "",
                               way_back()));
}

}  // namespace ballast::train

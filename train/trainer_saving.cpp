// Saving, at once or in the background (train/background_save.h), and the handling of a failed save.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>

#include "train/trainer.h"

namespace ballast::train {

CheckpointInfo Trainer::checkpoint_info(int64_t step) const {
    return {step,
            steps_skipped_,
            order_,
            as_saved(config_),
            data_.tokenizer.hash(),
            scaler_ ? std::optional(scaler_->state()) : std::nullopt,
            config_.train.spike_action != SpikeAction::none ? std::optional(spikes_.state()) : std::nullopt,
            distribution_.lanes()};
}

void Trainer::or_fail(int64_t step, const std::function<void()>& save) {
    try {
        save();
    } catch (const RunError& error) {
        throw RunError(fmt::format("step {}: {}, so it was not saved. {}", step, error.what(), way_back()));
    }
}

void Trainer::save(int64_t step) {
    wait_for_save();
    const Span span = at(Activity::save);
    const auto begin = std::chrono::steady_clock::now();
    const std::string path = directory_.checkpoint_path(step);
    if (ranks().is_first()) sync_logs();
    or_fail(step, [&] { save_checkpoint(path, checkpoint_info(step), model_.weights(), optimizer_); });
    const std::string warning = ranks().is_first() ? remove_old_checkpoints(step) : "";
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    take_note(SaveOutcome{step, path, seconds, seconds, nullptr, warning});
}

void Trainer::save_in_background(int64_t step) {
    wait_for_save();
    const Span span = at(Activity::save);
    or_fail(step, [&] {
        background_->start(
            directory_.checkpoint_path(step), checkpoint_info(step), [this] { sync_logs(); },
            [this, step] { return remove_old_checkpoints(step); });
    });
}

void Trainer::try_to_save(int64_t step) {
    if (background_) return save_in_background(step);
    try {
        save(step);
    } catch (const UserError& error) {
        warn_not_saved(step, error);
    }
}

void Trainer::wait_for_save() {
    if (!background_) return;
    const Span span = at(Activity::wait_for_save);
    take_note(background_->wait());
}

void Trainer::take_note(const std::optional<SaveOutcome>& outcome) {
    if (!outcome) return;
    if (outcome->failure) {
        try {
            std::rethrow_exception(outcome->failure);
        } catch (const UserError& error) {
            return warn_not_saved(outcome->step, error);
        }
    }
    last_saved_ = outcome->step;
    if (ranks().is_first()) show([&] { observer_.checkpoint(*outcome); });
    if (!outcome->warning.empty()) warn(outcome->warning);
}

void Trainer::warn_not_saved(int64_t step, const UserError& error) {
    warn(fmt::format("step {} was not saved: {}; training goes on and saves when it is due again", step, error.what()));
}

void Trainer::sync_logs() const {
    for (const auto* log : {&metrics_, &samples_})
        if (*log) (*log)->sync();
}

void Trainer::keep_what_was_protected() {
    for (const int64_t step : directory_.checkpoint_steps()) {
        if (checkpoint_protected(config_.checkpoint, step)) continue;
        try {
            const CheckpointInfo saved = read_checkpoint_info(directory_.checkpoint_path(step));
            if (checkpoint_protected(saved.config.checkpoint, step)) protected_before_.push_back(step);
        } catch (const UserError&) {  // damaged: what this run's settings say
        }
    }
    if (protected_before_.empty()) return;
    show([&] {
        observer_.note(
            fmt::format("keeping checkpoints that earlier settings protected, of {} steps up to {}; remove "
                        "by hand what is no longer wanted",
                        protected_before_.size(), protected_before_.back()));
    });
}

std::string Trainer::remove_old_checkpoints(int64_t newest) const {
    std::vector<int64_t> steps;
    try {
        steps = directory_.checkpoint_steps();
    } catch (const UserError& error) {
        return fmt::format("older checkpoints are not removed: {}", error.what());
    }
    std::erase_if(steps, [&](int64_t step) {
        return step > newest || std::binary_search(protected_before_.begin(), protected_before_.end(), step);
    });
    std::vector<std::string> kept;
    for (int64_t old : checkpoints_to_remove(config_.checkpoint, steps)) {
        const std::string path = directory_.checkpoint_path(old);
        std::error_code error;
        std::filesystem::remove(path, error);
        if (error) kept.push_back(fmt::format("{} ({})", path, error.message()));
    }
    if (kept.empty()) return "";
    return fmt::format("cannot remove {}; training goes on, and the next save tries again", fmt::join(kept, ", "));
}

}  // namespace ballast::train

// The training loop. Text to weights, one visible step at a time:
//   accumulate gradients over micro-batches -> norm, clip, AdamW -> report -> save -> validate, sample.
// The checkpoint of a step is saved before the parts that may fail or take long. Neither a full disk nor a closed
// terminal ends a run: metrics that cannot be written are dropped, and a checkpoint that cannot be saved is tried again
// when the next one is due. In fp16 a step whose gradients overflow uses its batch but updates nothing; the same holds
// for a skipped spike (train/spike_guard.h). As in DeepSpeed neither the schedule nor AdamW's step count then advances,
// so both lag behind the step number by the steps skipped so far.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "data/sampler.h"
#include "data/token_store.h"
#include "data/tokenizer.h"
#include "model/transformer.h"
#include "train/background_save.h"
#include "train/checkpoint.h"
#include "train/hang_watch.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/run_directory.h"
#include "train/sample_writer.h"
#include "train/train_step.h"
#include "train/validation.h"

namespace ballast::train {

/// The start of a run: new (UserError when the folder already contains a run), new over an old run, or from the newest
/// checkpoint.
enum class StartMode { fresh, overwrite, resume };

/// The reaction of a resumed run when its settings or its corpus need a different order of samples
/// (train/data_order.h).
enum class DataChange { refused, allowed };

/// Callbacks for everything worth showing; the run itself prints nothing.
struct TrainObserver {
    std::function<void()> watched = [] {};  // on every rank: from now on hangs are found (train/hang_watch.h)
    std::function<void(int64_t first_step)> started = [](int64_t) {};
    std::function<void(const StepMetrics&)> step = [](const StepMetrics&) {};
    std::function<void(int64_t step, double loss)> validation = [](int64_t, double) {};
    std::function<void(int64_t step, const std::string& text)> sample = [](int64_t, const std::string&) {};
    std::function<void(const SaveOutcome&)> checkpoint = [](const SaveOutcome&) {};  // once the file is on the disk
    std::function<void(const std::string&)> note = [](const std::string&) {};        // long operations, and why
    std::function<void(const std::string&)> warning = [](const std::string&) {};
};

/// Sets the ids of sink tokens and the size of the vocabulary. The ids follow the tokenizer's ids, and the padded
/// vocabulary grows (to a multiple of 128) only when they do not fit. UserError when the vocabulary is smaller than the
/// tokenizer's.
void resolve_vocabulary(model::ModelConfig& config, int64_t tokenizer_size);

/// The files that a run reads, opened and checked against each other. UserError when a store was made with another
/// tokenizer.
struct RunData {
    data::Tokenizer tokenizer;
    data::TokenStore train;
    std::unique_ptr<data::TokenStore> validation;

    static RunData open(const DataConfig& config);
};

class Trainer {
  public:
    /// `config` must be resolved and validated. The constructor writes nothing. UserError when the validation text is
    /// too short to give a loss. With several ranks only the first writes, validates and samples.
    Trainer(Context& context, const RunConfig& config, RunData& data, RunDirectory& directory, TrainObserver observer,
            const Distribution& distribution);

    /// Trains to the last step, or until interrupted(): then it saves, marks the run interrupted and returns. RunError
    /// that names the tensor when a loss or gradient is not finite (in fp16: even at the smallest loss scale). Then no
    /// parameter has changed, and the last checkpoint stays.
    RunStatus run(StartMode mode, DataChange change = DataChange::refused);

    /// Records the times of activities in the last `updates` updates. For a CPU: on other devices work is only queued.
    void keep_timeline(size_t updates);
    const Timeline& timeline() const { return timeline_; }
    /// The function to call in place of end_all_ranks() when the run hangs. Set it before run().
    void on_hang(HangWatch::End end) { end_of_hang_ = std::move(end); }

    const model::Transformer& model() const { return model_; }

  private:
    Communicator& ranks() const { return distribution_.ranks(); }
    Span at(Activity activity) { return {&timeline_, Track::compute, {activity}}; }
    int64_t start(StartMode mode, DataChange change);
    /// Starts the watch for hangs that the configuration asks for.
    void watch_for_hangs();
    RunStatus run_watched(StartMode mode, DataChange change);
    /// The newest valid checkpoint of a run to be resumed; -1: there is none, and the run starts anew.
    int64_t step_to_resume(StartMode mode);
    void write_run_files();
    int64_t start_anew(StartMode mode);
    int64_t resume(int64_t step, DataChange change);
    void order_samples();
    RunStatus run_steps();
    void set_status(RunStatus status, int64_t step);
    /// Warns of settings that differ from those of the checkpoint, for example more steps or another rate, and of a
    /// number of ranks with which gradients are added up in another order.
    void warn_of_changes(const CheckpointInfo& saved);
    void open_logs();
    /// True when any rank was asked to stop.
    bool wanted_to_stop();
    StepMetrics train_step(int64_t step);
    void wait_for_device();
    void load_tokens(int64_t step);
    /// Reacts to the result of an update: RunError when the update was impossible and the run must not continue without
    /// it.
    void judge_update(StepMetrics& metrics, const StepResult& result, const SpikeGuard::Limits& limits);
    /// Returns to the newest checkpoint and continues with the samples after this step's. When that is impossible, it
    /// only warns. Called by all ranks.
    bool roll_back(const StepMetrics& spike);
    /// Restores a checkpoint's state except tensors, the order of samples and spikes.
    void restore(const CheckpointInfo& saved);
    [[noreturn]] void fail_non_finite(int64_t step, double loss, const StepResult& result);
    /// Advice for an error message: what to do about weights or gradients that are not finite.
    std::string way_back() const;
    bool validation_due(int64_t step) const;
    bool sample_due(int64_t step) const;
    /// Validates and samples where an interrupted run saved a checkpoint first and did not get that far.
    void catch_up(int64_t step);
    void validate(int64_t step);
    void sample(int64_t step);
    CheckpointInfo checkpoint_info(int64_t step) const;
    /// Saves and waits for the save; also waits for a save in progress.
    void save(int64_t step);
    /// Saves a checkpoint that is not the last chance to save: in the background if the configuration says so.
    void try_to_save(int64_t step);
    void save_in_background(int64_t step);
    /// Handles the result of a save that has ended.
    void take_note(const std::optional<SaveOutcome>& outcome);
    void wait_for_save();
    /// Calls save(). A failure ends the run with a message that names the step and how to continue.
    void or_fail(int64_t step, const std::function<void()>& save);
    void warn_not_saved(int64_t step, const UserError& error);
    void sync_logs() const;
    /// `newest` is known to be valid. Later checkpoints, which a resume skipped as damaged, do not count. Never ends a
    /// run whose save is good: returns a warning of what could not be removed, or nothing.
    std::string remove_old_checkpoints(int64_t newest) const;
    /// Checkpoints that the settings of their time protect stay so, whatever this run's settings say.
    void keep_what_was_protected();
    void note_down(const std::function<void()>& append);
    /// Calls `tell`, which may block until the output is read.
    void show(const std::function<void()>& tell);
    void warn(const std::string& text);

    Context& context_;
    RunConfig config_;
    RunData& data_;
    RunDirectory& directory_;
    const Distribution& distribution_;
    TrainObserver observer_;
    Timeline timeline_;
    HangWatch::End end_of_hang_;
    std::optional<HangWatch> hang_watch_;
    Schedule schedule_;
    DataOrder order_;
    std::optional<data::Sampler> sampler_;  // of the order that the run reads now
    model::Transformer model_;
    Optimizer optimizer_;
    TrainStep step_;
    std::optional<Validation> validation_;
    std::optional<SampleWriter> sample_writer_;
    bool lines_lost_ = false;
    std::unique_ptr<JsonLines> metrics_, samples_;
    std::optional<BackgroundSave> background_;  // declared after the objects its thread uses
    std::optional<LossScaler> scaler_;          // fp16 only
    SpikeGuard spikes_;
    std::vector<int64_t> protected_before_;  // steps, ascending; only by earlier settings
    StepMetrics rolled_back_;                // the spike from which the run went back, until it is in the metrics
    int64_t steps_done_ = 0, steps_skipped_ = 0, last_saved_ = -1, loaded_step_ = 0;
};

}  // namespace ballast::train

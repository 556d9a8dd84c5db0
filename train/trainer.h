// The training loop. Text to weights, one visible step at a time:
//   accumulate gradients over micro-batches -> norm, clip, AdamW -> report -> save -> validate, sample.
// A checkpoint comes before what may fail or take long. Neither a full disk nor a closed terminal ends a run: metrics
// that cannot be written are left out, a checkpoint that cannot be saved is tried again when the next is due.
// In fp16 a step whose gradients overflow takes its batch but updates nothing, and so does a spike that is skipped
// (train/spike_guard.h): as in DeepSpeed neither the schedule nor AdamW's step count moves, so both lag behind the
// step's number by the steps skipped so far.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "data/sampler.h"
#include "data/token_store.h"
#include "data/tokenizer.h"
#include "infer/generate.h"
#include "model/transformer.h"
#include "train/background_save.h"
#include "train/checkpoint.h"
#include "train/hang_watch.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/run_directory.h"
#include "train/train_step.h"
#include "train/validation.h"

namespace ballast::train {

/// Where a run starts: anew (UserError when the folder already holds a run), anew over an old run, or from the newest
/// checkpoint.
enum class StartMode { fresh, overwrite, resume };

/// What a resumed run does when its settings or its corpus ask for another order of samples (train/data_order.h).
enum class DataChange { refused, allowed };

/// Told about everything worth showing; the run itself prints nothing.
struct TrainObserver {
    std::function<void(int64_t first_step)> started = [](int64_t) {};
    std::function<void(const StepMetrics&)> step = [](const StepMetrics&) {};
    std::function<void(int64_t step, double loss)> validation = [](int64_t, double) {};
    std::function<void(int64_t step, const std::string& text)> sample = [](int64_t, const std::string&) {};
    std::function<void(const SaveOutcome&)> checkpoint = [](const SaveOutcome&) {};  // once it is on the disk
    std::function<void(const std::string&)> note = [](const std::string&) {};        // what takes long, and why
    std::function<void(const std::string&)> warning = [](const std::string&) {};
};

/// Gives sink tokens their ids and the vocabulary the rows for them: ids follow the tokenizer's, and the padded
/// vocabulary grows (to a multiple of 128) only when they do not fit. UserError when the vocabulary is smaller than the
/// tokenizer's.
void resolve_vocabulary(model::ModelConfig& config, int64_t tokenizer_size);

/// Files a run reads, opened and checked against each other: UserError when a store was made with another tokenizer.
struct RunData {
    data::Tokenizer tokenizer;
    data::TokenStore train;
    std::unique_ptr<data::TokenStore> validation;

    static RunData open(const DataConfig& config);
};

class Trainer {
  public:
    /// `config` has been resolved and validated. Nothing is written yet. UserError when the validation text can never
    /// give a loss. Of several ranks only the first writes, validates and samples.
    Trainer(Context& context, const RunConfig& config, RunData& data, RunDirectory& directory, TrainObserver observer,
            const Distribution& distribution);

    /// Trains to the last step, or until interrupted(): then saves, marks the run interrupted and returns. RunError
    /// naming the tensor when a loss or gradient is not finite (in fp16: at the smallest loss scale still); no
    /// parameter has changed then and the last checkpoint stays.
    RunStatus run(StartMode mode, DataChange change = DataChange::refused);

    /// Notes down what is done when, of the last `updates`. On a CPU: elsewhere work is only queued.
    void keep_timeline(size_t updates);
    const Timeline& timeline() const { return timeline_; }
    /// Told in place of end_all_ranks() when the run hangs; to be set before run().
    void on_hang(HangWatch::End end) { end_of_hang_ = std::move(end); }

    const model::Transformer& model() const { return model_; }

  private:
    Communicator& ranks() const { return distribution_.ranks(); }
    Span at(Activity activity) { return {&timeline_, Track::compute, {activity}}; }
    int64_t start(StartMode mode, DataChange change);
    RunStatus run_watched(StartMode mode, DataChange change);
    /// The newest valid checkpoint of a run that is resumed; -1: there is none, and it begins anew.
    int64_t step_to_resume(StartMode mode);
    void write_run_files();
    int64_t start_anew(StartMode mode);
    int64_t resume(int64_t step, DataChange change);
    void order_samples();
    RunStatus run_steps();
    void set_status(RunStatus status, int64_t step);
    /// A resumed run may go on under other settings (more steps, another rate), but not unnoticed.
    void warn_of_changes(const RunConfig& saved);
    void open_logs();
    /// Whether any rank was told to.
    bool wanted_to_stop();
    StepMetrics train_step(int64_t step);
    void wait_for_device();
    void load_tokens(int64_t step);
    /// What follows from how an update went: RunError when it could not be, and must not go on without.
    void judge_update(StepMetrics& metrics, const StepResult& result, const SpikeGuard::Limits& limits);
    /// Back to the newest checkpoint, on with the samples after this step's. Nothing changes, but for a warning, when
    /// that cannot be. All ranks.
    bool roll_back(const StepMetrics& spike);
    /// What a checkpoint knows besides tensors, the order of samples and spikes.
    void restore(const CheckpointInfo& saved);
    [[noreturn]] void fail_non_finite(int64_t step, double loss, const StepResult& result);
    /// What to do about weights or gradients that are not finite.
    std::string way_back() const;
    bool validation_due(int64_t step) const;
    bool sample_due(int64_t step) const;
    /// What a resumed run's checkpoint came before.
    void catch_up(int64_t step);
    void validate(int64_t step);
    void sample(int64_t step);
    CheckpointInfo checkpoint_info(int64_t step) const;
    /// Saves and waits for it; what was under way before is waited for, too.
    void save(int64_t step);
    /// For a checkpoint that is not the last chance to save: in the background where the configuration says so.
    void try_to_save(int64_t step);
    void save_in_background(int64_t step);
    /// What has come of a save, when it has ended.
    void take_note(const std::optional<SaveOutcome>& outcome);
    void wait_for_save();
    /// Calls save(), telling a failure that ends the run with the step and the way back.
    void or_fail(int64_t step, const std::function<void()>& save);
    void warn_not_saved(int64_t step, const UserError& error);
    void sync_logs() const;
    /// `newest` is known to be good. Later ones, which a resume passed over as damaged, do not count.
    void remove_old_checkpoints(int64_t newest) const;
    void note_down(const std::function<void()>& append);
    /// Calls `tell`, which may wait for whoever reads the output.
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
    std::optional<infer::Generator> generator_;
    bool lines_lost_ = false;
    std::unique_ptr<JsonLines> metrics_, samples_;
    std::optional<BackgroundSave> background_;  // after what its thread uses
    std::optional<LossScaler> scaler_;          // fp16 only
    SpikeGuard spikes_;
    StepMetrics rolled_back_;  // the spike that the run has gone back from, until the next line of metrics tells it
    int64_t steps_done_ = 0, steps_skipped_ = 0, last_saved_ = -1, loaded_step_ = 0;
};

}  // namespace ballast::train

// The stages of `ballast moa` that run a model: calibrate, profile, validate. `search` runs them one after another.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/text_options.h"
#include "infer/cache_sizes.h"
#include "moa/calibrate.h"
#include "moa/profile_file.h"

namespace ballast {

/// A model and its tokenizer, loaded once.
struct MoaModel {
    Context context;
    train::LoadedModel loaded;
    data::Tokenizer tokenizer;
    std::optional<uint32_t> begin_of_text;
    moa::ProfileSettings settings;

    MoaModel(const std::string& path, const TextOptions& options);
    const model::ModelConfig& config() const { return loaded.model->config(); }
    /// The text in tokens.
    moa::Documents documents(const TextOptions& text) const;
    std::vector<moa::ItemTokens> tokens_of(const std::vector<moa::Item>& items, const std::string& source) const;
};

struct CalibrateStage {
    moa::CalibrateOptions options;
    std::string kind = "model", instruction_file;

    void add_to(Command command);
    /// UserError for options that contradict each other.
    void check() const;
    /// Writes items of `options.lengths`.
    void run(MoaModel& model, const moa::Documents& documents, const std::string& out) const;
};

struct ProfileStage {
    std::vector<int64_t> lengths;
    int64_t block = 0;  // 0: a 32nd of the shortest length, as MoA's 64 is of 2048; between 8 and 64
    int64_t count = 0;
    int64_t draws = 4;

    void add_to(Command command);
    /// UserError, before any of it is taken, when the model's weights and its profile take more memory than there is,
    /// and as empty().
    void require_memory(const std::string& model, const TextOptions& options) const;
    /// A profile of `lengths` in which nothing was run. UserError for lengths that the model or the blocks do not
    /// allow.
    moa::Profile empty(const model::ModelConfig& config) const;
    /// Goes on with `out` where it is there. RunError on Ctrl-C, with everything so far saved.
    void run(MoaModel& model, const std::string& model_path, const std::string& items, const std::string& out) const;

  private:
    int64_t block_size() const;
    /// Beside the weights.
    infer::MemoryList memory(const Context& context, const model::ModelConfig& config, Dtype dtype) const;
};

/// The loss of every plan and of the dense model on the items near `length`, printed; the index of the plan that loses
/// least. Losses that are not finite come last; RunError, after everything was written, where all are so.
size_t validate_plans(MoaModel& model, const std::string& items, const std::vector<std::string>& plans, int64_t length,
                      const std::string& json);

/// Options of several stages.
void add_moa_lengths(Command command, std::vector<int64_t>& lengths, const char* help);
void add_moa_model(Command command, std::string& model);

void add_moa_calibrate(Command parent);
void add_moa_profile(Command parent);
void add_moa_validate(Command parent);
void add_moa_search(Command parent);

}  // namespace ballast

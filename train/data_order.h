// The samples that the steps of a run read, also across resumes with other settings.
//
// A run reads the samples of one order (data/sampler.h) one after another, train.global_batch of them per step. A
// resumed run keeps its order and continues at the first sample that it has not read. So a different batch size or
// number of steps repeats no sample and skips none, as long as the order has enough samples; a stable order never ends.
// A different corpus, sequence length or data seed gives a different order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/sampler.h"
#include "train/run_config.h"

namespace ballast::train {

/// A range of steps that read one order in batches of one size.
struct DataStretch {
    int64_t first_step = 1;    // of the run
    int64_t first_sample = 0;  // within the order: the first sample that first_step reads
    int64_t global_batch = 1;
    data::SampleOrder order;
    std::string corpus;  // TokenStore::fingerprint()
};

class DataOrder {
  public:
    DataOrder() = default;
    /// The order of a run from its first step. UserError when the store is too small.
    DataOrder(const RunConfig& config, const data::TokenStore& store);
    /// Parses the text that to_json() wrote; messages name `source`. UserError when it is damaged.
    static DataOrder parse(std::string_view json, const std::string& source);
    std::string to_json() const;
    /// A text that is equal for two orders of the same samples, wherever their files are.
    std::string identity() const;

    /// Continues after `step` with the settings of `config`. UserError when that needs a different order; it names the
    /// samples that would be read twice or never. With `allow_change` the run starts the new order at its first sample
    /// instead.
    void resume(int64_t step, const RunConfig& config, const data::TokenStore& store, bool allow_change);

    /// For a return to the state of `step`: the steps after it read the samples that follow those of step `last_read`.
    /// False, without a change, when the order has too few samples left for `last_step`.
    bool skip(int64_t step, int64_t last_read, int64_t last_step, const data::TokenStore& store);

    bool empty() const { return stretches_.empty(); }
    /// The stretch that contains a step (from 1).
    const DataStretch& stretch_at(int64_t step) const;
    const DataStretch& last_stretch() const { return stretches_.back(); }
    /// The index of the first sample that a step reads, in its stretch's order.
    int64_t first_sample(int64_t step) const;
    /// What steps 1 to `step` have read: samples, and input positions.
    int64_t samples_after(int64_t step) const { return total_after(step, false); }
    int64_t tokens_after(int64_t step) const { return total_after(step, true); }

  private:
    int64_t total_after(int64_t step, bool tokens) const;

    std::vector<DataStretch> stretches_;  // by first_step, from 1
};

}  // namespace ballast::train

// Which samples the steps of a run read, across resumes under other settings too.
//
// A run reads the samples of one order (data/sampler.h) one after another, train.global_batch of them a step. A resumed
// run keeps the order that it began with and goes on at the first sample it has not read. So another batch, or another
// number of steps, repeats and skips nothing as long as the order has samples enough; a stable order never ends.
// Another corpus, sequence length or data seed is another order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/sampler.h"
#include "train/run_config.h"

namespace ballast::train {

/// Steps that read one order in batches of one size.
struct DataStretch {
    int64_t first_step = 1;    // of the run
    int64_t first_sample = 0;  // of the order: the first that first_step reads
    int64_t global_batch = 1;
    data::SampleOrder order;
    std::string corpus;  // TokenStore::fingerprint()
};

class DataOrder {
  public:
    DataOrder() = default;
    /// Of a run from its first step. UserError when the store is too small.
    DataOrder(const RunConfig& config, const data::TokenStore& store);
    /// What to_json() wrote; `source` stands for it in messages. UserError when it is damaged.
    static DataOrder parse(std::string_view json, const std::string& source);
    std::string to_json() const;

    /// Goes on after `step` under the settings of `config`. UserError, naming what would be read twice or never, when
    /// that takes another order; `allow_change` then begins the other order at its first sample.
    void resume(int64_t step, const RunConfig& config, const data::TokenStore& store, bool allow_change);

    /// After a return to the state of `step`: from the next step on, the samples after those of step `last_read` are
    /// read. False, and nothing changes, when the order has too few left for `last_step`.
    bool skip(int64_t step, int64_t last_read, int64_t last_step, const data::TokenStore& store);

    bool empty() const { return stretches_.empty(); }
    /// The stretch that a step (from 1) belongs to.
    const DataStretch& stretch_at(int64_t step) const;
    const DataStretch& last_stretch() const { return stretches_.back(); }
    /// The first sample that a step reads, within its stretch's order.
    int64_t first_sample(int64_t step) const;
    /// What steps 1 to `step` read: samples, and input positions.
    int64_t samples_after(int64_t step) const { return total_after(step, false); }
    int64_t tokens_after(int64_t step) const { return total_after(step, true); }

  private:
    int64_t total_after(int64_t step, bool tokens) const;

    std::vector<DataStretch> stretches_;  // by first_step, from 1
};

}  // namespace ballast::train

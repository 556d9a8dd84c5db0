// Whether all ranks train the same run. Ranks of several machines may be started with another config, tokenizer,
// corpus or program than rank 0 has; they would then train on wrong gradients, or wait for each other for ever.
#pragma once

#include <functional>
#include <string>

#include "base/communicator.h"
#include "train/data_order.h"
#include "train/run_config.h"

namespace ballast::train {

/// Says how a rank's value differs from rank 0's: the part of a message behind "rank 1 (node2) ".
using DescribeDifference = std::function<std::string(const std::string& first, const std::string& mine)>;

/// UserError, the same on every rank, when a rank's `value` is not rank 0's. It names the lowest such rank and its
/// machine. Collective.
void require_same(Communicator& ranks, const std::string& value, const DescribeDifference& describe);

/// UserError on every rank when one runs another version of Ballast than rank 0, or has another tokenizer, another
/// config (which names the field) or another corpus. `config` is resolved. Ranks may differ in the paths of their
/// files, in train.threads and in train.log_every. Collective, and to be called before anything that is so only when
/// configs agree.
void require_same_run(Communicator& ranks, const RunConfig& config, const std::string& tokenizer_hash,
                      const data::TokenStore& store);

/// UserError on every rank when one would read other samples than rank 0. Collective.
void require_same_order(Communicator& ranks, const DataOrder& order);

}  // namespace ballast::train

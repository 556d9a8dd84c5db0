// The order in which a run reads its samples, and the settings that determine it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "data/windows.h"

namespace ballast::data {

/// The kinds of sample orders.
///   neox         windows of the documents, both shuffled as in GPT-NeoX v1.0
///   preshuffled  the store holds the samples themselves, seq_length + 1 tokens each, in reading order:
///                Pythia's published sets (EleutherAI/pile-…-preshuffled)
///   stable       windows in the order of the text, shuffled again for each epoch; sample i does not depend on the
///                number of steps or the batch size
///   npy          an order stored by GPT-NeoX or Megatron-Core (data/index_triplet.h)
///   mcore        as neox, but as in Megatron-Core: without the spare 0.5 %; a short last epoch is shuffled separately
enum class OrderKind { neox, preshuffled, stable, npy, mcore };

/// The names in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 5> kOrderNames{"neox", "preshuffled", "stable", "npy", "mcore"};

/// The settings that determine an order of samples, together with the corpus.
struct SampleOrder {
    OrderKind kind = OrderKind::neox;
    int64_t seq_length = 0;
    uint32_t seed = 0;              // for neox, mcore, stable
    int64_t num_epochs = 1;         // for neox, mcore: how many times the corpus is read
    bool last_epoch_apart = false;  // for mcore: the last epoch is shuffled separately
    FirstToken first_token = FirstToken::none;
    std::string index, index_fingerprint;  // for npy: the path of the files, and a fingerprint of their contents

    bool operator==(const SampleOrder&) const = default;
};

/// The order that a run asks for.
struct OrderRequest {
    OrderKind kind = OrderKind::neox;
    int64_t seq_length = 0;
    uint32_t seed = 0;
    int64_t samples = 0;  // steps · global_batch
    FirstToken first_token = FirstToken::none;
    std::string index = "";
};

/// True when train.data_seed affects the order.
bool has_seed(OrderKind kind);

/// steps · global_batch. UserError when the samples have more than 10^18 tokens: no training needs that many, and 64
/// bits cannot count much further.
int64_t count_samples(int64_t steps, int64_t global_batch, int64_t seq_length);

/// The requested order with at least the requested samples. UserError when the store is empty, holds too few samples,
/// or is of another kind; and as for check_first_token().
///   neox   ns = ceil(samples · 1.005), the fewest epochs E with (E · tokens - 1) / seq_length >= ns. At most
///          2^31 visits to documents.
///   mcore  the same with ns = samples. When E > 1 and the last epoch would give fewer than int(0.8 · windows of one
///          epoch) samples, it is shuffled separately (Megatron-LM's megatron/core/datasets/gpt_dataset.py).
SampleOrder make_sample_order(const TokenStore& store, const OrderRequest& request);

}  // namespace ballast::data

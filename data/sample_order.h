// Which order a run reads its samples in, and what decides it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "data/windows.h"

namespace ballast::data {

/// Where samples come from.
///   neox         windows of the documents, both shuffled, as GPT-NeoX v1.0 does it
///   preshuffled  the store holds the samples themselves, seq_length + 1 tokens each, in the order they are to be read:
///                Pythia's published sets (EleutherAI/pile-…-preshuffled)
///   stable       windows in the order of the text, shuffled anew for each epoch; sample i is the same whatever the
///                number of steps and the batch
///   npy          what GPT-NeoX or Megatron-Core wrote down of an order of theirs (data/index_triplet.h)
///   mcore        as neox, in Megatron-Core's way: no half a per cent to spare, a short last epoch apart
enum class OrderKind { neox, preshuffled, stable, npy, mcore };

/// As in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 5> kOrderNames{"neox", "preshuffled", "stable", "npy", "mcore"};

/// What decides an order of samples, beside the corpus.
struct SampleOrder {
    OrderKind kind = OrderKind::neox;
    int64_t seq_length = 0;
    uint32_t seed = 0;              // of neox, mcore, stable
    int64_t num_epochs = 1;         // of neox, mcore: times that the corpus is read
    bool last_epoch_apart = false;  // of mcore: it is shuffled by itself
    FirstToken first_token = FirstToken::none;
    std::string index, index_fingerprint;  // of npy: where the files are, and what is in them

    bool operator==(const SampleOrder&) const = default;
};

/// What a run says of the order that it wants.
struct OrderRequest {
    OrderKind kind = OrderKind::neox;
    int64_t seq_length = 0;
    uint32_t seed = 0;
    int64_t samples = 0;  // steps · global_batch
    FirstToken first_token = FirstToken::none;
    std::string index = "";
};

/// Whether train.data_seed decides it.
bool has_seed(OrderKind kind);

/// steps · global_batch. UserError when these are more than 10^18 tokens, which nobody trains on and 64 bits could not
/// count much further.
int64_t count_samples(int64_t steps, int64_t global_batch, int64_t seq_length);

/// The order that is wanted, of these samples at least. UserError when the store is empty, holds too few samples, or is
/// of another kind; and as check_first_token().
///   neox   ns = ceil(samples · 1.005), the fewest epochs E with (E · tokens - 1) / seq_length >= ns. 2^31 visits to
///          documents are the limit.
///   mcore  the same for ns = samples. Where E > 1 and the last epoch is to give fewer than int(0.8 · windows of one
///          epoch) of them, it is shuffled apart (Megatron-LM's megatron/core/datasets/gpt_dataset.py).
SampleOrder make_sample_order(const TokenStore& store, const OrderRequest& request);

}  // namespace ballast::data

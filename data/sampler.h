// Which tokens make up sample i. A sample is a window of seq_length + 1 ids: inputs [0, seq_length), targets
// [1, seq_length + 1); neighbours share one token, so that every token but the first is once a target.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/token_store.h"

namespace ballast::data {

class NumpyRandomState;

/// What samples have at their beginnings: the store's begin_of_text_id, or what the text happens to have there.
///   none            the windows are those of the text
///   every_window    the first input of every window is that token, in the place of the text's
///   every_document  that token is put before every document, and the windows are cut afterwards
enum class FirstToken { none, every_window, every_document };

/// As in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 3> kFirstTokenNames{"none", "every_window", "every_document"};

/// Where samples come from.
///   neox         windows of the documents, both shuffled, as GPT-NeoX v1.0 does it
///   preshuffled  the store holds the samples themselves, seq_length + 1 tokens each, in the order they are to be read:
///   Pythia's
///                published sets (EleutherAI/pile-…-preshuffled)
enum class OrderKind { neox, preshuffled };

/// As in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 2> kOrderNames{"neox", "preshuffled"};

/// What decides an order of samples, beside the corpus.
struct SampleOrder {
    int64_t seq_length = 0;
    uint32_t seed = 0;
    int64_t num_epochs = 0;  // times that the corpus is read
    FirstToken first_token = FirstToken::none;
    OrderKind kind = OrderKind::neox;

    bool operator==(const SampleOrder&) const = default;
};

/// steps · global_batch. UserError when these are more than 10^18 tokens, which nobody trains on and 64 bits could not
/// count much further.
int64_t count_samples(int64_t steps, int64_t global_batch, int64_t seq_length);

/// The order that GPT-NeoX v1.0 makes for so many samples (steps · global_batch). UserError when the store is empty or
/// far too small: 2^31 document visits are the limit. Also when the store knows no token for `first_token`, or has it
/// before its documents already.
SampleOrder order_for(const TokenStore& store, int64_t seq_length, uint32_t seed, int64_t samples,
                      FirstToken first_token = FirstToken::none);
/// The order of a preshuffled store. UserError when it holds too few samples, or is none.
SampleOrder preshuffled_order(const TokenStore& store, int64_t seq_length, int64_t samples, FirstToken first_token);

/// The order of GPT-NeoX v1.0, which is Pythia's (its data/gpt2_dataset.py and helpers.cpp): a pure function of
/// (corpus, seq_length, seed, epochs), and the epochs one of steps · global_batch.
/// With every_document, a document is one token longer than it is in the store.
///   samples wanted     ns = ceil(steps · global_batch · 1.005)
///   epochs             the fewest E with (E · tokens - 1) / seq_length >= ns
///   document order     all documents E times, shuffled together over all epochs
///   sample order       a permutation of the (E · tokens - 1) / seq_length windows, from the same random stream
/// Memory: 4 bytes a document and epoch, 4 bytes a sample (8 from 2^32 on), and little else; window starts are found
/// from every 256th document rather than stored.
class Sampler {
  public:
    /// UserError when the host lacks the memory. Takes about a second for ten million samples.
    Sampler(const TokenStore& store, const SampleOrder& order);

    /// Samples there are in such an order of the store.
    static int64_t size(const TokenStore& store, const SampleOrder& order);
    /// Host memory that it takes, known before it is made.
    static size_t bytes(const TokenStore& store, const SampleOrder& order);

    const SampleOrder& order() const { return order_; }
    int64_t size() const { return num_samples_; }

    /// Copies sample `index` in [0, size()): seq_length + 1 ids to `out`, and, where it is wanted, for each of them
    /// where in the sample its document begins (0: there or before; of a preshuffled store always 0) to
    /// `document_starts`. Any thread may call this.
    void sample(int64_t index, int32_t* out, int32_t* document_starts = nullptr) const;

  private:
    void preshuffled_sample(int64_t index, int32_t* out, int32_t* document_starts) const;
    void order_documents(NumpyRandomState& random);
    void order_samples(NumpyRandomState& random);
    void index_positions();
    int64_t document_of(int64_t visit) const { return document_order_[static_cast<size_t>(visit)]; }
    int64_t window_of(int64_t index) const;

    static constexpr int64_t kStride = 256;

    const TokenStore& store_;
    SampleOrder order_;
    int64_t num_samples_;
    std::vector<int32_t> document_order_;     // visit -> document
    std::vector<int64_t> positions_;          // tokens before visit kStride · i
    std::vector<uint32_t> sample_order_;      // sample -> window
    std::vector<int64_t> wide_sample_order_;  // the same where 32 bits do not suffice; one of the two is empty
};

/// Windows in the order of the text, for validation: sample i starts at token i · seq_length. The last, incomplete one
/// is left out.
class SequentialSampler {
  public:
    /// UserError when the store holds no whole window, and as order_for().
    SequentialSampler(const TokenStore& store, int64_t seq_length, FirstToken first_token = FirstToken::none);

    int64_t seq_length() const { return seq_length_; }
    int64_t size() const;
    /// As Sampler::sample().
    void sample(int64_t index, int32_t* out, int32_t* document_starts = nullptr) const;

  private:
    const TokenStore& store_;
    int64_t seq_length_;
    FirstToken first_token_;
};

}  // namespace ballast::data

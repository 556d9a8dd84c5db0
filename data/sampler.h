// The tokens of sample i. A sample is a window of seq_length + 1 ids: inputs [0, seq_length), targets [1, seq_length +
// 1). Neighbouring windows share one token, so that every token but the first is a target once.
#pragma once

#include <cstdint>
#include <memory>

#include "data/sample_order.h"
#include "data/token_store.h"

namespace ballast::data {

/// A way to order samples; one class per OrderKind.
class SampleSource {
  public:
    virtual ~SampleSource() = default;
    /// As Sampler::sample().
    virtual void sample(int64_t index, int32_t* out, int32_t* document_starts) const = 0;
};

/// The samples of an order. They, and their number, are a pure function of (corpus, SampleOrder).
class Sampler {
  public:
    /// UserError when the host has too little memory, or the files of an npy order do not fit the store. neox and mcore
    /// take about a second for ten million samples.
    Sampler(const TokenStore& store, const SampleOrder& order);

    /// The number of samples in such an order of the store. A stable order is limited only by 64-bit counts.
    static int64_t size(const TokenStore& store, const SampleOrder& order);
    /// The host memory of the sampler, known before it is made; mapped files do not count.
    static size_t bytes(const TokenStore& store, const SampleOrder& order);

    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

    const SampleOrder& order() const { return order_; }
    int64_t size() const { return num_samples_; }

    /// Copies sample `index` in [0, size()): seq_length + 1 ids to `out`. With `document_starts`, also stores for each
    /// id the index in the sample at which its document begins (0: there or earlier; always 0 for a preshuffled store).
    /// Any thread may call this.
    void sample(int64_t index, int32_t* out, int32_t* document_starts = nullptr) const;

  private:
    SampleOrder order_;
    int64_t num_samples_;
    std::unique_ptr<SampleSource> source_;
};

/// Windows in the order of the text, for validation: sample i starts at token i · seq_length. The last, incomplete
/// window is dropped.
class SequentialSampler {
  public:
    /// UserError when the store holds no complete window, and as for check_first_token().
    SequentialSampler(const TokenStore& store, int64_t seq_length, FirstToken first_token = FirstToken::none);

    int64_t seq_length() const { return seq_length_; }
    int64_t size() const;
    /// As Sampler::sample().
    void sample(int64_t index, int32_t* out, int32_t* document_starts = nullptr) const;

  private:
    Documents documents_;
    int64_t seq_length_;
};

}  // namespace ballast::data

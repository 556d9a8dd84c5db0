// Which tokens make up sample i. A sample is a window of seq_length + 1 ids: inputs [0, seq_length), targets
// [1, seq_length + 1); neighbours share one token, so that every token but the first is once a target.
#pragma once

#include <cstdint>
#include <memory>

#include "data/sample_order.h"
#include "data/token_store.h"

namespace ballast::data {

/// One way of ordering samples; a class each for the kinds of OrderKind.
class SampleSource {
  public:
    virtual ~SampleSource() = default;
    /// As Sampler::sample().
    virtual void sample(int64_t index, int32_t* out, int32_t* document_starts) const = 0;
};

/// The samples of an order. Which it is, and of how many, is a pure function of (corpus, SampleOrder).
class Sampler {
  public:
    /// UserError when the host lacks the memory, or the files of an npy order do not fit the store. neox and mcore take
    /// about a second for ten million samples.
    Sampler(const TokenStore& store, const SampleOrder& order);

    /// Samples there are in such an order of the store. A stable order goes on as long as 64 bits count.
    static int64_t size(const TokenStore& store, const SampleOrder& order);
    /// Host memory that it takes, known before it is made; what is mapped does not count.
    static size_t bytes(const TokenStore& store, const SampleOrder& order);

    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;

    const SampleOrder& order() const { return order_; }
    int64_t size() const { return num_samples_; }

    /// Copies sample `index` in [0, size()): seq_length + 1 ids to `out`, and, where it is wanted, for each of them
    /// where in the sample its document begins (0: there or before; of a preshuffled store always 0) to
    /// `document_starts`. Any thread may call this.
    void sample(int64_t index, int32_t* out, int32_t* document_starts = nullptr) const;

  private:
    SampleOrder order_;
    int64_t num_samples_;
    std::unique_ptr<SampleSource> source_;
};

/// Windows in the order of the text, for validation: sample i starts at token i · seq_length. The last, incomplete one
/// is left out.
class SequentialSampler {
  public:
    /// UserError when the store holds no whole window, and as check_first_token().
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

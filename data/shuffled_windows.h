// The orders of GPT-NeoX and Megatron-Core, computed again.
#pragma once

#include <cstdint>
#include <vector>

#include "data/sampler.h"

namespace ballast::data {

class NumpyRandomState;

/// The order of GPT-NeoX v1.0, which Pythia used (its data/gpt2_dataset.py and helpers.cpp). It is a pure function of
/// (corpus, seq_length, seed, epochs), and the number of epochs is one of steps · global_batch (make_sample_order()).
/// With every_document, a document is one token longer than in the store.
///   document order     all documents E times, shuffled together over all epochs
///   sample order       a permutation of the (E · tokens - 1) / seq_length windows, from the same random stream
/// Megatron-Core with a separate last epoch: the documents of the first E - 1 epochs are shuffled together, then those
/// of the last epoch. Likewise the first ((E - 1) · tokens - 1) / seq_length windows are shuffled, then the others.
/// Memory: 4 bytes per document and epoch, 4 bytes per sample (8 from 2^32 samples on), and little else. Window starts
/// are not stored: they are found from every 256th document.
class ShuffledWindows : public SampleSource {
  public:
    ShuffledWindows(const TokenStore& store, const SampleOrder& order);

    static int64_t size(const TokenStore& store, const SampleOrder& order);
    static size_t bytes(const TokenStore& store, const SampleOrder& order);

    void sample(int64_t index, int32_t* out, int32_t* document_starts) const override;

  private:
    void order_documents(NumpyRandomState& random);
    void order_samples(NumpyRandomState& random);
    void index_positions();
    int64_t document_of(int64_t visit) const { return document_order_[static_cast<size_t>(visit)]; }
    int64_t window_of(int64_t index) const;

    static constexpr int64_t kStride = 256;

    Documents documents_;
    const SampleOrder& order_;
    std::vector<int32_t> document_order_;     // visit -> document
    std::vector<int64_t> positions_;          // tokens before visit kStride · i
    std::vector<uint32_t> sample_order_;      // sample -> window
    std::vector<int64_t> wide_sample_order_;  // the same where 32 bits are too few; one of the two is empty
};

}  // namespace ballast::data

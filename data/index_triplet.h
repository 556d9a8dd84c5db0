// An order of samples as GPT-NeoX and Megatron-Core write it down: three .npy files, read where they lie.
//
//   NAME_doc_idx.npy      [visits]           which document is whose turn
//   NAME_sample_idx.npy   [windows + 1, 2]   where each window begins: a visit, and a token of that visit's document;
//                                            it ends with the token at which the next one begins
//   NAME_shuffle_idx.npy  [windows]          sample -> window
//
// Megatron-Core's are NAME-document_index.npy, NAME-sample_index.npy and NAME-shuffle_index.npy. Pythia's are published
// (EleutherAI/pile-preshuffled-seeds); 2.8 GB of them, which the ranks of a machine share as they are mapped.
#pragma once

#include <cstdint>
#include <string>

#include "data/npy_file.h"
#include "data/sampler.h"

namespace ballast::data {

class IndexTriplet {
  public:
    /// `name` is what the three names have in common, or one of the files. UserError for files that are missing,
    /// damaged, or of shapes that do not go together. Does not look at the elements.
    explicit IndexTriplet(const std::string& name);

    int64_t num_samples() const { return samples_.numel(); }
    int64_t num_visits() const { return documents_.numel(); }
    int64_t document_of(int64_t visit) const { return documents_[visit]; }

    struct Place {
        int64_t visit, token;
    };
    Place begin_of(int64_t window) const { return {windows_[2 * window], windows_[2 * window + 1]}; }
    int64_t window_of(int64_t sample) const { return samples_[sample]; }

    /// UserError, naming file and element, unless documents are in [0, num_documents), windows begin at ascending
    /// visits that there are, and each window has one sample. Reads everything; a second or two for the Pile's.
    void check(int64_t num_documents) const;

    /// Sizes and checksums, equal for the same order. Reads everything.
    std::string fingerprint() const;

    const std::string& windows_path() const { return windows_.path(); }

  private:
    NpyFile documents_, windows_, samples_;
};

/// The windows of such files in a store of the documents that they are of.
class IndexedWindows : public SampleSource {
  public:
    /// Checks the files, and measures a thousand windows. UserError when they were made for another corpus or length.
    IndexedWindows(const TokenStore& store, const SampleOrder& order);

    /// UserError when the window's places in the files are not seq_length tokens apart.
    void sample(int64_t index, int32_t* out, int32_t* document_starts) const override;

  private:
    void check_window(int64_t window) const;

    Documents documents_;
    const SampleOrder& order_;
    IndexTriplet index_;
};

}  // namespace ballast::data

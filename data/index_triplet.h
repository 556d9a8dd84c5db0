// An order of samples as GPT-NeoX and Megatron-Core store it: three .npy files, read in place.
//
//   NAME_doc_idx.npy      [visits]           the document of each visit
//   NAME_sample_idx.npy   [windows + 1, 2]   the start of each window: a visit, and a token of that visit's document.
//                                            A window ends with the token at which the next one begins
//   NAME_shuffle_idx.npy  [windows]          sample -> window
//
// Megatron-Core's names are NAME-document_index.npy, NAME-sample_index.npy and NAME-shuffle_index.npy. Pythia's files
// are published (EleutherAI/pile-preshuffled-seeds): 2.8 GB, which the ranks of a machine share because they are
// mapped.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/npy_file.h"
#include "data/sampler.h"

namespace ballast::data {

class IndexTriplet {
  public:
    /// `name` is the common part of the three names, or one of the files. UserError for files that are missing or
    /// damaged, or whose shapes do not match. Does not check the elements.
    explicit IndexTriplet(const std::string& name);

    int64_t num_samples() const { return samples_.numel(); }
    int64_t num_visits() const { return documents_.numel(); }
    int64_t document_of(int64_t visit) const { return documents_[visit]; }

    struct Place {
        int64_t visit, token;
    };
    Place begin_of(int64_t window) const { return {windows_[2 * window], windows_[2 * window + 1]}; }
    int64_t window_of(int64_t sample) const { return samples_[sample]; }

    /// UserError, naming file and element, unless documents are in [0, num_documents), windows begin at ascending,
    /// existing visits, and each window has one sample. Reads everything; this takes a second or two for the Pile's
    /// files.
    void check(int64_t num_documents) const;

    /// Sizes and checksums; equal for equal orders. Reads everything.
    std::string fingerprint() const;

    std::vector<std::string> files() const { return {documents_.path(), windows_.path(), samples_.path()}; }
    const std::string& windows_path() const { return windows_.path(); }

  private:
    NpyFile documents_, windows_, samples_;
};

/// The windows of such files in the store of their documents.
class IndexedWindows : public SampleSource {
  public:
    /// Checks the files, and the lengths of a thousand windows. UserError when the files were made for another corpus
    /// or length.
    IndexedWindows(const TokenStore& store, const SampleOrder& order);

    /// UserError when the window's start and end in the files are not seq_length tokens apart.
    void sample(int64_t index, int32_t* out, int32_t* document_starts) const override;

  private:
    void check_window(int64_t window) const;

    Documents documents_;
    const SampleOrder& order_;
    IndexTriplet index_;
};

}  // namespace ballast::data

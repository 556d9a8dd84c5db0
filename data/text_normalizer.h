// Runs the normalizers of a pipeline.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// Immutable, except that the normalised text is kept in `storage` until the next call.
class TextNormalizer {
  public:
    struct Storage {
        std::string now, next;
    };

    explicit TextNormalizer(std::vector<Normalizer> steps) : steps_(std::move(steps)) {}

    /// Applies the steps in order to `text`, valid UTF-8; returns `text` itself when nothing changes. Without `prepend`
    /// the Prepend steps are skipped: the text continues an earlier one.
    std::string_view normalize(std::string_view text, Storage& storage, bool prepend = true) const;

  private:
    std::vector<Normalizer> steps_;
};

}  // namespace ballast::data

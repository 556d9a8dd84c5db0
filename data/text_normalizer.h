// Runs the normalizers of a pipeline.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// Normalised text is kept in `storage` until the next call. Immutable otherwise.
class TextNormalizer {
  public:
    struct Storage {
        std::string now, next;
    };

    explicit TextNormalizer(std::vector<Normalizer> steps) : steps_(std::move(steps)) {}

    /// The steps in order on `text`, valid UTF-8; `text` itself when nothing changes. Without `prepend` the Prepend
    /// steps are left out: the text continues what was normalised before.
    std::string_view normalize(std::string_view text, Storage& storage, bool prepend = true) const;

  private:
    std::vector<Normalizer> steps_;
};

}  // namespace ballast::data

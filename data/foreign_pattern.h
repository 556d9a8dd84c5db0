// Regular expressions out of tokenizer.json, by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ballast::data {

/// The pattern in PCRE2's syntax. The files use Oniguruma's, of which this takes what tokenizers need: literals,
/// escapes, classes, groups, lookaround, quantifiers; \p{L}, \p{N} and \s become the very code points that the
/// `tokenizers` package has for them, so that the ids do not depend on PCRE2's Unicode version. UserError for anything
/// else.
std::string to_pcre2(std::string_view pattern);

/// A compiled pattern; threads may share it, each with a Matcher of its own.
class ForeignPattern {
  public:
    /// UserError for a pattern that to_pcre2() or PCRE2 refuses, or that matches nothing at all ("a*").
    explicit ForeignPattern(const std::string& pattern);

    struct Match {
        size_t begin = 0, end = 0;
    };

    class Matcher {
      public:
        explicit Matcher(const ForeignPattern& pattern);
        /// The first match in `text`, valid UTF-8, that begins at or after `from`, the boundary of a character.
        /// UserError when the search takes too long, as it may under a pattern that backtracks without end.
        std::optional<Match> find(std::string_view text, size_t from) const;

      private:
        const void* code_;
        std::shared_ptr<void> data_;
    };

  private:
    std::shared_ptr<void> code_;
};

}  // namespace ballast::data

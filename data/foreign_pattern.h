// Regular expressions from tokenizer.json, run by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ballast::data {

/// Translates a pattern to PCRE2's syntax. The files use Oniguruma's syntax, of which the parts that tokenizers need
/// are supported: literals, escapes, classes, groups, lookaround, quantifiers. \p{L}, \p{N} and \s become the exact
/// code points that the `tokenizers` package uses, so that ids do not depend on PCRE2's Unicode version. UserError for
/// anything else.
std::string to_pcre2(std::string_view pattern);

/// A compiled pattern. Threads may share it; each needs its own Matcher.
class ForeignPattern {
  public:
    /// UserError for a pattern that to_pcre2() or PCRE2 refuses, or that matches the empty string ("a*").
    explicit ForeignPattern(const std::string& pattern);

    struct Match {
        size_t begin = 0, end = 0;
    };

    class Matcher {
      public:
        explicit Matcher(const ForeignPattern& pattern);
        /// The first match in `text`, valid UTF-8, that begins at or after `from`, a character boundary. UserError when
        /// the search takes too long, as with a pattern that backtracks exponentially.
        std::optional<Match> find(std::string_view text, size_t from) const;

      private:
        const void* code_;
        std::shared_ptr<void> data_;
    };

  private:
    std::shared_ptr<void> code_;
};

}  // namespace ballast::data

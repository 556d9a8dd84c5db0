// What the `tokenizers` package does, recorded by scripts/make_tokenizer_fixtures.py, and files that the repository
// does not contain.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ballast::test {

/// tests/data/fixtures/NAME
std::string fixture_path(const std::string& name);

/// A text and the package's ids for it under fixtures/tokenizer.json.
struct ParityCase {
    std::string text;
    std::vector<uint32_t> ids;
};
std::vector<ParityCase> parity_cases();

/// A text and the merges the package learns from it.
struct TrainingCase {
    std::string text;
    int64_t vocab_size = 0;
    std::vector<std::pair<std::string, std::string>> merges;
};
TrainingCase training_case();

/// The path of a file of BALLAST_SHARED_DATA (tests/CMakeLists.txt); nothing, with a warning in the test's output, when
/// it is not there.
std::optional<std::string> shared_data(const std::string& name);

}  // namespace ballast::test

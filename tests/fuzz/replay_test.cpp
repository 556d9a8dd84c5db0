// What fuzzing found, once more in every build, and the seeds that it begins with.
#include <sys/resource.h>

#include <algorithm>

#include "tests/catch.h"
#include "tests/fuzz/harness.h"

using namespace ballast;
using namespace ballast::fuzz;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr rlim_t kMemory = RLIM_INFINITY;  // their shadow alone is terabytes
#else
constexpr rlim_t kMemory = rlim_t{4} << 30;
#endif

/// A reader that takes what a file claims fails by bad_alloc.
class LimitedMemory {
  public:
    LimitedMemory() {
        ::getrlimit(RLIMIT_AS, &before_);
        const rlimit limited{std::min(kMemory, before_.rlim_max), before_.rlim_max};
        ::setrlimit(RLIMIT_AS, &limited);
    }
    ~LimitedMemory() { ::setrlimit(RLIMIT_AS, &before_); }

  private:
    rlimit before_{};
};

/// tests/fuzz/crashes/FORMAT/*, in a fixed order.
std::vector<std::filesystem::path> crashes_of(const Format& format) {
    const std::filesystem::path folder = std::filesystem::path(BALLAST_SOURCE_DIR) / "tests/fuzz/crashes" / format.name;
    std::vector<std::filesystem::path> files;
    if (std::filesystem::exists(folder))
        for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

std::string repeated(const std::string& text, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += text;
    return out;
}

/// What recursion does not survive; longer than the inputs that a fuzzer tries.
std::vector<std::string> endless_inputs() {
    constexpr size_t kDepth = 500'000;
    const std::string lists = repeated("[", kDepth) + repeated("]", kDepth);
    return {"",
            lists,
            "{\"a\": " + lists + "}",
            "{\"step\": 1, \"loss\": 2, \"skipped\": " + lists + "}",
            repeated("{\"a\":", kDepth) + "1" + repeated("}", kDepth),
            repeated("a.", kDepth) + "a = 1",
            "[" + repeated("a.", kDepth) + "a]"};
}

}  // namespace

TEST_CASE("fuzzing: the seeds of every format are read") {
    constexpr size_t kMostBytes =
        65536;  // scripts/fuzz.sh's -max_len: libFuzzer cuts what is longer, and nothing reads that
    const LimitedMemory limited;
    for (const Format& format : all_formats()) {
        const Harness harness(format);
        REQUIRE(!harness.seeds().empty());
        for (size_t i = 0; i < harness.seeds().size(); ++i) {
            INFO(format.name << ", seed " << i);
            CHECK(harness.refusal(harness.seeds()[i]) == "");
            CHECK(harness.seeds()[i].size() <= kMostBytes);
        }
    }
}

TEST_CASE("fuzzing: nesting without end is read or refused") {
    for (const Format& format : all_formats()) {
        const Harness harness(format);
        for (const std::string& input : endless_inputs()) {
            INFO(format.name << ": " << input.substr(0, 40));
            CHECK_NOTHROW(harness.refusal(input));
        }
    }
}

TEST_CASE("fuzzing: inputs that once broke a reader are read or refused") {
    const LimitedMemory limited;
    for (const Format& format : all_formats()) {
        const Harness harness(format);
        for (const auto& file : crashes_of(format)) {
            INFO(file.string());
            CHECK_NOTHROW(harness.refusal(test::bytes_of(file.string())));
        }
    }
}

// libFuzzer's program: the harness of the format that BALLAST_FUZZ_FORMAT names.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "tests/fuzz/harness.h"

namespace {

using namespace ballast;

/// Never destroyed: libFuzzer leaves by _Exit, and scripts/fuzz.sh removes the folder.
const fuzz::Harness& harness() {
    static const fuzz::Harness* const made = [] {
        const char* wanted = std::getenv("BALLAST_FUZZ_FORMAT");
        for (const fuzz::Format& format : fuzz::all_formats())
            if (wanted != nullptr && format.name == wanted) return new fuzz::Harness(format);
        std::fprintf(stderr, "fuzz_readers: BALLAST_FUZZ_FORMAT must be one of the names that fuzz_seeds prints\n");
        std::exit(2);
    }();
    return *made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    harness().refusal({reinterpret_cast<const char*>(data), size});
    return 0;
}

// Every fault that a GPU would not forgive is seen: by the executor's own checks, by a wrong result under some order of
// threads, or by a sanitizer. And the kernels without the faults pass under all of them.
#include <sys/wait.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast::test;

namespace {

constexpr int kRight = 0, kWrong = 3, kError = 4;  // exit codes of simt_faults
constexpr int kErrorInSome = -1;                   // an Error that depends on the order
constexpr bool kAsan = std::string_view(BALLAST_SANITIZE).find("address") != std::string_view::npos;
constexpr bool kTsan = std::string_view(BALLAST_SANITIZE).find("thread") != std::string_view::npos;

struct Outcome {
    int code;
    std::string err;
};

Outcome run(const std::string& kernel, const char* how, const std::string& order) {
    const TemporaryFolder folder;
    const std::string command =
        "BALLAST_SIMT_ORDER=" + order + " '" SIMT_FAULTS "' " + kernel + " " + how + " 2>" + (folder / "err");
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, bytes_of(folder / "err")};
}

const std::vector<std::string> kOrders{"forward", "reverse", "run_ahead", "random"};

/// What at least one order must show of the fault, and what no order may miss.
struct Fault {
    const char* kernel;
    int plain;          ///< what the executor alone sees: kError, under every order; kErrorInSome or kWrong, under
                        ///< some; or nothing, kRight
    const char* error;  ///< part of simt::Error's text
    const char* asan;   ///< part of AddressSanitizer's report, when it sees the fault
    const char* tsan;   ///< … of ThreadSanitizer's
};

const Fault kFaults[] = {
    {"missing_barrier", kWrong, "", nullptr, "data race"},
    {"missing_syncwarp", kWrong, "", nullptr, "data race"},
    {"missing_wait", kWrong, "", nullptr, "data race"},
    {"plain_add_between_blocks", kRight, "", nullptr, "data race"},
    {"carved", kRight, "", "use-after-poison", nullptr},
    {"last_carved", kRight, "", "use-after-poison", nullptr},
    {"static_array", kRight, "", "use-after-poison", nullptr},
    {"global", kRight, "", "heap-buffer-overflow", nullptr},
    {"divergent_barrier", kError, "__syncthreads: other threads of the block are at faults.cuh:", nullptr, nullptr},
    {"skipped_barrier", kError, "different numbers of __syncthreads()", nullptr, nullptr},
    {"divergent_shuffle", kError, "shuffle: other lanes of the warp are at faults.cuh:", nullptr, nullptr},
    {"forgotten_arrival", kError, "wait in named barrier at faults.cuh:", nullptr, nullptr},
    {"no_empty_wait", kError, "mbarrier: more arrivals in one phase than its count of 1", nullptr, nullptr},
    {"early_release", kRight, "", nullptr, "data race"},
    {"wrong_bytes", kError, "lacks 0 of 1 arrivals and 512 bytes", nullptr, nullptr},
    {"no_initialisation", kError, "mbarrier: not initialised", nullptr, nullptr},
    {"no_init_fence", kError, "initialised without an mbarrier_init_fence() after it", nullptr, nullptr},
    {"no_barrier_on_init", kErrorInSome, "mbarrier: not initialised", nullptr, nullptr},
    {"load_without_wait", kError, "a TMA load was never waited for", nullptr, nullptr},
    {"store_no_proxy_fence", kRight, "", nullptr, "data race"},
    {"store_no_barrier", kWrong, "", nullptr, "data race"},
    {"store_no_wait", kError, "a TMA store was never waited for", nullptr, nullptr},
    {"store_overwritten_tile", kWrong, "", nullptr, "data race"},
    {"wgmma_no_proxy_fence", kRight, "", nullptr, "data race"},
    {"wgmma_no_barrier", kWrong, "", nullptr, "data race"},
    {"wgmma_no_fence", kError, "wgmma: no wgmma_fence() since the last wait", nullptr, nullptr},
    {"wgmma_late_wait", kWrong, "", nullptr, nullptr},
    {"wgmma_no_wait", kError, "a wgmma was never waited for", nullptr, nullptr},
    {"wgmma_changed_registers", kError, "wgmma: A's registers changed", nullptr, nullptr},
    {"wgmma_overwritten_operand", kWrong, "", nullptr, "data race"},
};

}  // namespace

TEST_CASE("simt faults: a kernel without its fault passes under every order") {
    for (const Fault& fault : kFaults)
        for (const std::string& order : kOrders) {
            const Outcome outcome = run(fault.kernel, "good", order);
            CAPTURE(fault.kernel, order, outcome.err);
            CHECK(outcome.code == kRight);
        }
}

TEST_CASE("simt faults: every fault is seen, by the executor or by a sanitizer") {
    for (const Fault& fault : kFaults) {
        const char* report = kAsan ? fault.asan : kTsan ? fault.tsan : nullptr;
        bool seen = false;
        for (const std::string& order : kOrders) {
            if ((kAsan || kTsan) && seen) break;  // every order is for the plain build; sanitizers do not depend on it
            const Outcome outcome = run(fault.kernel, "bad", order);
            CAPTURE(fault.kernel, order, outcome.code, outcome.err);
            if (report != nullptr) {
                CHECK(outcome.err.find(report) != std::string::npos);
                CHECK(outcome.err.find("faults.cuh:") != std::string::npos);
                CHECK(outcome.code != kRight);
                seen = true;
            } else if (fault.plain == kError) {  // nor do the executor's own checks
                CHECK(outcome.code == kError);
                CHECK(outcome.err.find(fault.error) != std::string::npos);
                seen = true;
            } else if (fault.plain == kErrorInSome) {
                if (outcome.code != kError) continue;
                CHECK(outcome.err.find(fault.error) != std::string::npos);
                seen = true;
            } else {  // one order at least; ThreadSanitizer also sees some of AddressSanitizer's
                seen = seen || outcome.code == fault.plain || (kTsan && fault.asan != nullptr);
            }
        }
        CAPTURE(fault.kernel);
        CHECK(seen);
    }
}

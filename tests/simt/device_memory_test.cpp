// Strict mode keeps the host out of the device's memory, and lets launches and copies in.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "kernels/simt/device_memory.h"
#include "kernels/simt/simt.cuh"
#include "tests/catch.h"

using namespace ballast;
using namespace ballast::simt;

namespace {

__global__ void increment(int* x) { x[threadIdx.x] += 1; }

struct StrictMode {
    StrictMode() { options().strict = true; }
    ~StrictMode() { options().strict = false; }
};

/// The signal that ends a process in which the host reads `p`; 0 when it may.
[[maybe_unused]] int signal_of_reading(const int* p) {
    const pid_t child = fork();
    if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);  // the test framework's own handler would report a failure
        const volatile int value = *p;
        _exit(value >= 0 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("simt strict mode: kernels and copies reach device memory, the host does not") {
    const StrictMode strict;
    auto* x = static_cast<int*>(allocate_device_memory(64 * sizeof(int)));
    auto* other = static_cast<int*>(allocate_device_memory(sizeof(int)));
    int on_host[64] = {};
    CHECK(is_device_memory(x));
    CHECK(is_device_memory(x + 63));
    CHECK_FALSE(is_device_memory(on_host));
    CHECK_FALSE(is_device_memory(nullptr));

    launch(increment, 1, 64, {}, nullptr, x);
    launch(increment, 1, 64, {}, nullptr, x);
    {
        const DeviceAccess access(x + 5);
        CHECK(x[63] == 2);
        const DeviceAccess again;
        CHECK(*other == 0);
    }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they report the signal themselves
    CHECK(signal_of_reading(x) == SIGSEGV);
    CHECK(signal_of_reading(other) == SIGSEGV);
    {
        const DeviceAccess access(x);
        CHECK(signal_of_reading(x) == 0);
        CHECK(signal_of_reading(other) == SIGSEGV);
    }
#endif
    release_device_memory(x);
    CHECK_FALSE(is_device_memory(x));
    release_device_memory(other);
}

TEST_CASE("simt: without strict mode every memory is the device's") {
    int on_host = 0;
    CHECK(is_device_memory(&on_host));
    auto* x = static_cast<int*>(allocate_device_memory(sizeof(int)));
    *x = 1;
    release_device_memory(x);
}

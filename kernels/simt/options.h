// The executor's options, its counters, and its errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace ballast::simt {

/// A line of a kernel: the default argument of all functions that can fail. (Not std::source_location: clang 14 lacks
/// it.)
struct Location {
    const char* file = "";
    unsigned line = 0;
    static constexpr Location current(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
        return {file, line};
    }
};

/// A kernel did something that fails on a GPU. The text names the line, the block and the thread.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The order in which runnable threads run. A correct kernel gives the same result in every order.
enum class Order {
    forward,    ///< in turn, threads and blocks ascending
    reverse,    ///< in turn, threads and blocks descending
    run_ahead,  ///< the one that became runnable last: warps run as far ahead as barriers let them
    random,     ///< by a seeded generator
};

struct Options {
    Order order = Order::forward;
    uint64_t seed = 1;
    unsigned os_threads = 1;  ///< the blocks of a launch are divided among so many threads
    size_t stack_bytes = size_t{128} << 10;
    size_t shared_memory_limit = size_t{227} << 10;  ///< dynamic, per block: Hopper's
    bool late_copies = true;  ///< asynchronous copies land when they are waited for; false: at once
    /// Refuses everything that works only on the executor: host access to device memory (device_memory.h), kernels in
    /// f64.
    bool strict = false;
};

/// Process-wide; read at each launch. Starts from BALLAST_SIMT_ORDER (forward | reverse | run_ahead | random),
/// BALLAST_SIMT_SEED and BALLAST_SIMT_STRICT (1); `strict` must not change while device memory is allocated.
Options& options();

/// The order with that name; Error when there is none.
Order order_of(std::string_view name);

/// Counts of the calling OS thread since its last `statistics() = {}`.
struct Statistics {
    uint64_t barriers = 0, warp_operations = 0, matrix_products = 0, matrix_loads = 0;
    uint64_t bank_conflicts = 0;  ///< extra wavefronts of ldmatrix: 0 for a well swizzled tile
};
Statistics& statistics();

}  // namespace ballast::simt

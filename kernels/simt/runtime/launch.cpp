// A launch: its blocks one after another, or divided among OS threads.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "kernels/simt/device_memory.h"
#include "kernels/simt/host.h"
#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/sanitizers.h"

namespace ballast::simt {

Order order_of(std::string_view name) {
    if (name == "forward") return Order::forward;
    if (name == "reverse") return Order::reverse;
    if (name == "run_ahead") return Order::run_ahead;
    if (name == "random") return Order::random;
    throw Error("no such order: " + std::string(name) + "; there are forward, reverse, run_ahead and random");
}

Options& options() {
    static Options instance = [] {
        Options initial;
        if (const char* order = std::getenv("BALLAST_SIMT_ORDER")) initial.order = order_of(order);
        if (const char* seed = std::getenv("BALLAST_SIMT_SEED")) initial.seed = std::strtoull(seed, nullptr, 10);
        if (const char* strict = std::getenv("BALLAST_SIMT_STRICT")) initial.strict = *strict == '1';
        return initial;
    }();
    return instance;
}

Statistics& statistics() {
    thread_local Statistics counts;
    return counts;
}

namespace host {
namespace {

/// What the OS threads of one launch share.
struct Launch {
    dim3 grid, block;
    SharedBytes shared;
    void (*kernel)(void*);
    void* arguments;
    std::atomic<uint64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr error{};

    uint64_t blocks() const { return uint64_t{grid.x} * grid.y * grid.z; }
};

void run_blocks(Launch& launch) {
    Executor& executor = Executor::enter();
    try {
        blockDim = launch.block;
        gridDim = launch.grid;
        executor.prepare(launch.block, launch.shared.bytes, launch.kernel, launch.arguments);
        for (uint64_t i; !launch.failed && (i = launch.next++) < launch.blocks();) {
            const uint64_t b = options().order == Order::reverse ? launch.blocks() - 1 - i : i;
            executor.run_block({static_cast<unsigned>(b % launch.grid.x),
                                static_cast<unsigned>(b / launch.grid.x % launch.grid.y),
                                static_cast<unsigned>(b / (uint64_t{launch.grid.x} * launch.grid.y))});
        }
    } catch (...) {
        if (!launch.failed.exchange(true)) launch.error = std::current_exception();
    }
    executor.leave();
}

}  // namespace

void launch(dim3 grid, dim3 block, SharedBytes shared, void (*kernel)(void*), void* arguments) {
    if (shared.bytes - shared.gaps > options().shared_memory_limit)
        throw Error("launch: " + std::to_string(shared.bytes - shared.gaps) +
                    " bytes of dynamic shared memory; a block has " + std::to_string(options().shared_memory_limit));
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
        throw Error("launch: a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " +
                    std::to_string(grid.z) + " blocks");
    const DeviceAccess access;
    Launch work{grid, block, shared, kernel, arguments};
    const auto threads = static_cast<unsigned>(std::clamp<uint64_t>(options().os_threads, 1, work.blocks()));
    if (threads == 1) {
        run_blocks(work);
    } else {
        std::vector<std::thread> helpers;
        for (unsigned i = 0; i < threads; ++i) helpers.emplace_back(run_blocks, std::ref(work));
        for (std::thread& helper : helpers) helper.join();
    }
    if (work.error) std::rethrow_exception(work.error);
}

void fail_at(const std::string& what, Location where) { fail(what, where); }

void* dynamic_shared_memory() { return Executor::current().shared_memory().dynamic(); }

void* static_shared_memory(const void* key, size_t bytes, size_t alignment) {
    const Quiet quiet;
    return Executor::current().shared_memory().static_array(key, bytes, alignment);
}

unsigned shared_offset(const void* p, Location where) {
    return Executor::current().shared_memory().offset_of(p, where);
}

void poison_gap(const void* p, size_t bytes) { poison(p, bytes); }

}  // namespace host
}  // namespace ballast::simt

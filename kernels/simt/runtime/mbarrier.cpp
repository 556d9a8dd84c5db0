// mbarriers: all their state is in the eight bytes that the kernel allocates.
#include <algorithm>
#include <bit>

#include "kernels/simt/runtime/async_proxy.h"
#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/tensor_copy.h"

namespace ballast::simt {
namespace {

struct State {
    int32_t bytes;     ///< expected and not come; negative when they came first
    uint16_t pending;  ///< arrivals
    uint16_t count : 15, phase : 1;

    bool initialised() const { return count != 0 && pending <= count; }  // neither filled with ones nor with zeros
};
static_assert(sizeof(State) == 8);
constexpr unsigned kMaxCount = (1u << 15) - 2;
constexpr int32_t kMaxBytes = (1 << 20) - 1;

State load(const uint64_t* barrier) { return std::bit_cast<State>(*barrier); }
void store(uint64_t* barrier, State state) { *barrier = std::bit_cast<uint64_t>(state); }

State load_initialised(const uint64_t* barrier, Location where) {
    const State state = load(barrier);
    if (!state.initialised()) fail("mbarrier: not initialised", where);
    return state;
}

size_t place(const uint64_t* barrier) {
    return static_cast<size_t>(reinterpret_cast<const char*>(barrier) - Executor::current().shared_memory().dynamic());
}

void check_use(const uint64_t* barrier, Location where) {
    Executor::current().shared_memory().offset_of(barrier, where);
    if (reinterpret_cast<uintptr_t>(barrier) % 8 != 0) fail("mbarrier: not 8-byte aligned", where);
    if (is_poisoned(barrier, 8)) fail("mbarrier: outside of what the kernel set aside", where);
}

}  // namespace

bool mbarrier_phase(const uint64_t* barrier) { return load(barrier).phase; }

char* AsyncProxy::order_of(const uint64_t* barrier, bool phase) {
    if (!under_tsan()) return nullptr;
    return &barrier_order_[place(barrier) / 4 + phase];
}

void AsyncProxy::initialise(uint64_t* barrier, unsigned count, Fiber& by) {
    store(barrier,
          {.bytes = 0, .pending = static_cast<uint16_t>(count), .count = static_cast<uint16_t>(count), .phase = 0});
    unfenced_.push_back({barrier, &by});
}

void AsyncProxy::fence_initialisations(const Fiber& by) {
    std::erase_if(unfenced_, [&](const Waiter& waiter) { return waiter.fiber == &by; });
}

void AsyncProxy::end_phase_if_due(uint64_t* barrier, RunQueue& queue) {
    State state = load(barrier);
    if (state.pending != 0 || state.bytes != 0) return;
    state.pending = state.count;
    state.phase ^= 1;
    store(barrier, state);
    std::erase_if(waiters_, [&](const Waiter& waiter) {
        if (waiter.barrier != barrier) return false;
        queue.push(waiter.fiber);
        return true;
    });
}

void AsyncProxy::arrive(uint64_t* barrier, unsigned expected_bytes, RunQueue& queue, Location where) {
    State state = load_initialised(barrier, where);
    if (state.pending == 0)
        fail("mbarrier: more arrivals in one phase than its count of " + std::to_string(state.count), where);
    if (expected_bytes > static_cast<unsigned>(kMaxBytes - std::max(state.bytes, 0)))
        fail("mbarrier: more than " + std::to_string(kMaxBytes) + " bytes expected", where);
    state.bytes += static_cast<int32_t>(expected_bytes);
    --state.pending;
    store(barrier, state);
    release(order_of(barrier, state.phase));
    end_phase_if_due(barrier, queue);
}

void AsyncProxy::complete_bytes(uint64_t* barrier, unsigned bytes, RunQueue& queue) {
    State state = load(barrier);
    state.bytes -= static_cast<int32_t>(bytes);
    store(barrier, state);
    end_phase_if_due(barrier, queue);
}

void AsyncProxy::wait(uint64_t* barrier, unsigned parity, Location where) {
    if (parity > 1) fail("mbarrier: parity " + std::to_string(parity) + " is not 0 or 1", where);
    Executor& executor = Executor::current();
    while (load_initialised(barrier, where).phase == parity) {  // as hardware polls: who sleeps too long misses a phase
        waiters_.push_back({barrier, &executor.running()});
        executor.wait("an mbarrier", where);
    }
    const auto under_way = [&](const auto& copy) { return copy->is_load() && copy->barrier == barrier; };
    if (std::none_of(copies_.begin(), copies_.end(), under_way))
        std::erase_if(unseen_, [&](const Load& load) { return load.barrier == barrier; });
    acquire(order_of(barrier, parity != 0));
}

std::string AsyncProxy::describe_waits() const {
    std::vector<uint64_t*> barriers;
    for (const Waiter& waiter : waiters_)
        if (std::find(barriers.begin(), barriers.end(), waiter.barrier) == barriers.end())
            barriers.push_back(waiter.barrier);
    std::string lines;
    for (const uint64_t* barrier : barriers) {
        const State state = load(barrier);
        lines += "\n  the mbarrier at byte " + std::to_string(place(barrier)) + " of shared memory, phase " +
                 std::to_string(state.phase) + ", lacks " + std::to_string(state.pending) + " of " +
                 std::to_string(state.count) + " arrivals and " + std::to_string(state.bytes) + " bytes";
    }
    return lines;
}

namespace host {

void mbarrier_init(uint64_t* barrier, unsigned count, Location where) {
    const CalledFromKernel call;
    check_use(barrier, where);
    if (count == 0 || count > kMaxCount) fail("mbarrier: a count of " + std::to_string(count), where);
    note_write(barrier, sizeof *barrier);
    const Quiet quiet;
    Executor& executor = Executor::current();
    executor.async_proxy().initialise(barrier, count, executor.running());
}

void mbarrier_init_fence() {
    const Quiet quiet;
    Executor& executor = Executor::current();
    executor.async_proxy().fence_initialisations(executor.running());
}

void mbarrier_arrive(uint64_t* barrier, unsigned expected_bytes, Location where) {
    const CalledFromKernel call;
    check_use(barrier, where);
    note_read(barrier, sizeof *barrier);
    const Quiet quiet;
    Executor& executor = Executor::current();
    executor.async_proxy().arrive(barrier, expected_bytes, executor.queue(), where);
}

void mbarrier_wait(uint64_t* barrier, unsigned parity, Location where) {
    const CalledFromKernel call;
    check_use(barrier, where);
    note_read(barrier, sizeof *barrier);
    const Quiet quiet;
    Executor::current().async_proxy().wait(barrier, parity, where);
}

}  // namespace host
}  // namespace ballast::simt

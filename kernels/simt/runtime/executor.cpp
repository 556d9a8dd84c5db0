#include "kernels/simt/runtime/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "kernels/simt/host.h"
#include "kernels/simt/runtime/sanitizers.h"

constinit thread_local uint3 threadIdx{}, blockIdx{};
constinit thread_local dim3 blockDim{}, gridDim{};

namespace ballast::simt {
namespace {

constexpr unsigned kMaxThreads = 1024;

constinit thread_local Executor* current_executor = nullptr;

/// Executors are expensive (a thousand stacks), OS threads come and go.
struct Pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<Executor>> idle;
};
Pool& pool() {
    static Pool instance;
    return instance;
}

/// Stacks of one size that all begin on a page would fight for the same few cache sets: three times slower switches.
size_t stagger(unsigned rank) {
    constexpr size_t kPage = 4096;
    return rank * (kPage + 192) % (2 * kPage) / 64 * 64;
}

}  // namespace

// ---- run queue ------------------------------------------------------------------------------------------------------

void RunQueue::reset(Order order, uint64_t seed) {
    order_ = order;
    random_state_ = seed * 0x9E3779B97F4A7C15ull | 1;
    head_ = tail_ = 0;
}

void RunQueue::push(Fiber* fiber) {
    fiber->state = Fiber::State::runnable;
    ring_[tail_++ % kSize] = fiber;
}

Fiber* RunQueue::pop() {
    if (empty()) return nullptr;
    if (order_ == Order::run_ahead) return ring_[--tail_ % kSize];
    if (order_ == Order::random)
        std::swap(ring_[head_ % kSize], ring_[(head_ + static_cast<unsigned>(random() % (tail_ - head_))) % kSize]);
    return ring_[head_++ % kSize];
}

uint64_t RunQueue::random() {  // xorshift64*
    random_state_ ^= random_state_ << 13;
    random_state_ ^= random_state_ >> 7;
    random_state_ ^= random_state_ << 17;
    return random_state_ * 0x2545F4914F6CDD1Dull;
}

// ---- errors ---------------------------------------------------------------------------------------------------------

bool same(const Location& a, const Location& b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

std::string text_of(const Location& where) {
    const std::string file = where.file;
    return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line);
}

void fail(const std::string& what, Location where) {
    const Executor* executor = Executor::current_or_null();
    throw Error(text_of(where) + ": " + what +
                (executor ? ", " + current_executor->describe(current_executor->running()) : ""));
}

// ---- executor -------------------------------------------------------------------------------------------------------

Executor::Executor() = default;

Executor::~Executor() {
    for (Crew& crew : crews_)
        for (auto& fiber : crew.fibers) {
            if (fiber->tsan) __tsan_destroy_fiber(fiber->tsan);
            unpoison(fiber->stack, fiber->stack_bytes);
            munmap(fiber->pages, fiber->page_bytes);
        }
}

Executor& Executor::current() { return *current_executor; }
Executor* Executor::current_or_null() {
    return current_executor && current_executor->running_ ? current_executor : nullptr;
}

Executor& Executor::enter() {
    auto& [mutex, idle] = pool();
    const std::lock_guard lock(mutex);
    std::unique_ptr<Executor> executor = idle.empty() ? std::make_unique<Executor>() : std::move(idle.back());
    if (!idle.empty()) idle.pop_back();
    executor->host_ = Fiber{};  // this OS thread now
    return *(current_executor = executor.release());
}

void Executor::leave() {
    acquire(&after_kernel_);
    running_ = nullptr;
    auto& [mutex, idle] = pool();
    const std::lock_guard lock(mutex);
    idle.emplace_back(std::exchange(current_executor, nullptr));
}

std::string Executor::describe(const Fiber& fiber) const {
    const auto triple = [](const uint3& i) {
        return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
    };
    return "block " + triple(blockIdx) + " thread " + triple(fiber.index);
}

void Executor::prepare(dim3 block, size_t dynamic_bytes, void (*kernel)(void*), void* arguments) {
    const uint64_t threads = uint64_t{block.x} * block.y * block.z;
    if (threads == 0 || threads > kMaxThreads)
        throw Error("launch: a block of " + std::to_string(threads) + " threads; 1 to 1024 are possible");
    threads_ = static_cast<unsigned>(threads);
    dynamic_bytes_ = dynamic_bytes;
    kernel_ = kernel;
    arguments_ = arguments;
    prepare(crews_[0], block);
    if (under_tsan()) prepare(crews_[1], block);
    release(&before_kernel_);  // the host before the kernel; nothing orders one block before the next
}

void Executor::prepare(Crew& crew, dim3 block) {
    constexpr size_t kPage = 4096;
    const size_t bytes = (options().stack_bytes + kPage - 1) / kPage * kPage;
    while (crew.fibers.size() < threads_) {
        auto fiber = std::make_unique<Fiber>();
        fiber->rank = static_cast<unsigned>(crew.fibers.size());
        void* pages = mmap(nullptr, bytes + 3 * kPage, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) throw Error("no memory for the stack of a CUDA thread");
        mprotect(pages, kPage, PROT_NONE);  // an overflow ends here
        fiber->pages = pages;
        fiber->page_bytes = bytes + 3 * kPage;
        fiber->stack = static_cast<char*>(pages) + kPage + stagger(fiber->rank);
        fiber->stack_bytes = bytes;
        if (under_tsan()) {
            fiber->tsan = __tsan_create_fiber(0);
            __tsan_set_fiber_name(fiber->tsan, ("CUDA thread " + std::to_string(fiber->rank)).c_str());
        }
        crew.fibers.push_back(std::move(fiber));
    }
    crew.warps.clear();
    crew.warps.resize((threads_ + 31) / 32);
    for (unsigned i = 0; i < threads_; ++i) {
        crew.fibers[i]->warp = &crew.warps[i / 32];
        crew.fibers[i]->index = uint3{i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    }
}

void Executor::run_block(uint3 block) {
    const Quiet quiet;
    start_block(block);
    running_ = &host_;
    if (under_tsan()) host_.tsan = __tsan_get_current_fiber();
    switch_to(*queue_.pop());
    if (under_tsan() && alive_ > 0) abandon_unfinished();
    async_proxy().finish_block(&after_kernel_);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    if (alive_ > 0) throw Error(deadlock_report(block));
    check_end_of_block();
}

void Executor::start_block(uint3 block) {
    blockIdx = block;
    if (under_tsan()) crew_ = crew_ == crews_ ? crews_ + 1 : crews_;
    shared_memory_.reset(dynamic_bytes_);
    queue_.reset(options().order, options().seed + block.x + 7919 * (block.y + 7919ull * block.z));
    async_proxy().start_block(&before_kernel_);
    for (Barrier& barrier : crew_->barriers) barrier = Barrier{};
    for (unsigned w = 0; w < crew_->warps.size(); ++w) {
        Warp& warp = crew_->warps[w];
        warp = Warp{};
        warp.id = w;
        const unsigned lanes = std::min(32u, threads_ - w * 32);
        warp.alive = lanes == 32 ? kFullWarp : (1u << lanes) - 1;
    }
    alive_ = threads_;
    for (unsigned i = 0; i < threads_; ++i)
        start_fiber(fiber(options().order == Order::reverse ? threads_ - 1 - i : i));
}

void Executor::start_fiber(Fiber& fiber) {
    unpoison(fiber.stack, fiber.stack_bytes);  // what an abandoned thread left
    fiber.registers.prepare(fiber.stack, fiber.stack_bytes, &Executor::fiber_main);
    fiber.fake_stack = nullptr;
    fiber.copies.clear();
    fiber.copy_groups.clear();
    fiber.uncommitted_copies = fiber.barriers_passed = 0;
    fiber.tensor_stores = {};
    queue_.push(&fiber);
}

void Executor::fiber_main() {
    Executor& executor = current();
    executor.after_switch(*executor.running_);
    acquire(&executor.before_kernel_);
    try {
        executor.kernel_(executor.arguments_);
    } catch (...) {
        if (!executor.error_) executor.error_ = std::current_exception();
    }
    release(&executor.after_kernel_);
    executor.exit_thread();
    std::abort();  // nobody comes back here
}

void Executor::exit_thread() {
    Fiber* next = nullptr;
    {
        const Quiet quiet;
        Fiber& me = *running_;
        me.state = Fiber::State::done;
        --alive_;
        me.warp->alive &= ~(1u << me.lane());
        if (!error_) {  // barriers and operations no longer wait for this thread
            for (size_t i = me.warp->meetings.size(); i-- > 0;) try_complete(*me.warp, i);
            try_complete(barrier(0));
            next = next_to_run();
        }
    }
    switch_to(next ? *next : host_, true);
}

void Executor::wait(const char* what, Location where) {
    running_->waits_in = what;
    running_->waits_at = where;
    running_->state = Fiber::State::waiting;
    Fiber* next = next_to_run();
    switch_to(next ? *next : host_);  // nobody can go on: the host reports the deadlock
}

Fiber* Executor::next_to_run() {
    constexpr unsigned kSteps = 4;  // at random a copy of TMA's gets on about so many times as rarely as threads do
    if (options().order == Order::random && queue_.random() % kSteps == 0) async_proxy().perform_any(queue_);
    while (queue_.empty() && alive_ > 0 && async_proxy().perform_load(queue_)) continue;
    return queue_.pop();
}

void Executor::yield() {
    const Quiet quiet;
    Fiber* next = next_to_run();
    if (!next) return;
    queue_.push(running_);
    switch_to(*next);
}

void Executor::switch_to(Fiber& next, bool for_ever) {
    Fiber& me = *running_;
    if (&next == &me) return;
    running_ = &next;
    threadIdx = next.index;
    if (under_tsan()) __tsan_switch_to_fiber(next.tsan, kNoSync);
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(for_ever ? nullptr : &me.fake_stack, next.stack, next.stack_bytes);
    me.registers.switch_to(next.registers);
    after_switch(me);
}

void Executor::after_switch(Fiber& me) {
    if (!__sanitizer_finish_switch_fiber) return;
    const void* bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(me.fake_stack, &bottom, &bytes);
    if (host_.stack == nullptr && &me != &host_) {  // the first fiber of all learns where the OS thread's stack is
        host_.stack = static_cast<char*>(const_cast<void*>(bottom));
        host_.stack_bytes = bytes;
    }
}

void Executor::abandon_unfinished() {
    // Threads that an error left behind: what they did is ordered before the host, and their stacks get new identities.
    for (unsigned i = 0; i < threads_; ++i) {
        Fiber& fiber = this->fiber(i);
        if (fiber.state == Fiber::State::done) continue;
        __tsan_switch_to_fiber(fiber.tsan, kNoSync);
        release(&after_kernel_);
        __tsan_switch_to_fiber(host_.tsan, kNoSync);
        fiber.tsan = __tsan_create_fiber(0);
    }
}

std::string Executor::deadlock_report(uint3 block) const {
    std::map<std::string, std::vector<unsigned>> groups;
    for (unsigned i = 0; i < threads_; ++i) {
        const Fiber& fiber = *crew_->fibers[i];
        groups[fiber.state == Fiber::State::done
                   ? "have exited"
                   : std::string("wait in ") + fiber.waits_in + " at " + text_of(fiber.waits_at)]
            .push_back(i);
    }
    std::string report = "deadlock in block (" + std::to_string(block.x) + "," + std::to_string(block.y) + "," +
                         std::to_string(block.z) + "):";
    for (const auto& [what, ranks] : groups)
        report += "\n  " + std::to_string(ranks.size()) + " threads (first " + std::to_string(ranks.front()) +
                  ", last " + std::to_string(ranks.back()) + ") " + what;
    return report + crew_->async_proxy.describe_waits();
}

void Executor::check_end_of_block() {
    // A thread may return before its first barrier; of the others each must pass the same number.
    unsigned fewest = ~0u, most = 0;
    for (unsigned i = 0; i < threads_; ++i) {
        const Fiber& fiber = *crew_->fibers[i];
        if (!fiber.copies.empty()) throw Error("a cp.async was never waited for by " + describe(fiber));
        if (!fiber.tensor_stores.all_read())
            throw Error(text_of(fiber.tensor_stores.last) + ": a TMA store was never waited for by " + describe(fiber));
        if (fiber.barriers_passed == 0) continue;
        fewest = std::min(fewest, fiber.barriers_passed);
        most = std::max(most, fiber.barriers_passed);
    }
    if (most > 0 && fewest != most)
        throw Error("threads of one block passed different numbers of __syncthreads(), " + std::to_string(fewest) +
                    " to " + std::to_string(most));
    check_products(crew_->warps, threads_);
    async_proxy().check_end_of_block();
}

}  // namespace ballast::simt

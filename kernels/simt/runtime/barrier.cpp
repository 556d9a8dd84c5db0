// __syncthreads() and the named barriers.
#include "kernels/simt/host.h"
#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/sanitizers.h"

namespace ballast::simt {

void Executor::try_complete(Barrier& barrier) {
    const unsigned needed = barrier.expected ? barrier.expected : alive_;
    if (barrier.arrived == 0 || barrier.arrived < needed) return;
    ++statistics().barriers;
    barrier.result = {barrier.any, barrier.all, barrier.count};
    ++barrier.generation;
    for (Fiber* fiber : barrier.waiting)
        if (fiber != running_) queue_.push(fiber);
    barrier.waiting.clear();
    barrier.arrived = 0;
    barrier.any = 0, barrier.all = 1, barrier.count = 0;
}

namespace host {
namespace {

constexpr int kSyncThreads = 0;  // the hardware's number of __syncthreads()' barrier

void arrive(Executor& executor, Barrier& barrier, int id, unsigned threads, int predicate, Location where) {
    const char* name = id == kSyncThreads ? "__syncthreads" : "named barrier";
    if (barrier.arrived == 0) {
        barrier.where = where;
        barrier.expected = threads;
    }
    // Named barriers are meant to be met at different lines (one side arrives, the other waits).
    if (id == kSyncThreads && !same(barrier.where, where))
        fail(std::string(name) + ": other threads of the block are at " + text_of(barrier.where), where);
    if (barrier.expected != threads)
        fail(std::string(name) + ": " + std::to_string(threads) + " threads, others say " +
                 std::to_string(barrier.expected),
             where);
    release(&barrier.order[barrier.generation & 1]);
    ++barrier.arrived;
    barrier.any |= predicate != 0;
    barrier.all &= predicate != 0;
    barrier.count += predicate != 0;
    executor.running().barriers_passed += id == kSyncThreads;
}

}  // namespace

BarrierVotes barrier_wait(int id, unsigned threads, int predicate, Location where) {
    const Quiet quiet;
    Executor& executor = Executor::current();
    Barrier& barrier = executor.barrier(id);
    const unsigned generation = barrier.generation;
    barrier.waiting.push_back(&executor.running());
    arrive(executor, barrier, id, threads, predicate, where);
    executor.try_complete(barrier);
    if (barrier.generation == generation) executor.wait(id == kSyncThreads ? "__syncthreads" : "named barrier", where);
    acquire(&barrier.order[generation & 1]);
    return {barrier.result.any, barrier.result.all, barrier.result.count};
}

void barrier_arrive(int id, unsigned threads, Location where) {
    const Quiet quiet;
    Executor& executor = Executor::current();
    Barrier& barrier = executor.barrier(id);
    arrive(executor, barrier, id, threads, 0, where);
    executor.try_complete(barrier);
}

}  // namespace host
}  // namespace ballast::simt

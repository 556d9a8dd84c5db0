#include "base/thread_pool.h"

#include <cerrno>
#include <numeric>
#include <stdexcept>

#include "tests/base/refused_calls.h"
#include "tests/catch.h"

using namespace ballast;

namespace {

/// Whether every task of a loop ran once.
bool each_runs_once(ThreadPool& pool) {
    std::vector<int> runs(1000, 0);
    pool.parallel_for(1000, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
    return runs == std::vector<int>(1000, 1);
}

}  // namespace

TEST_CASE("thread pool: every task runs once, for any number of threads") {
    for (const int threads : {1, 2, 7}) {
        ThreadPool pool(threads);
        CHECK(pool.num_threads() == threads);
        for (int round = 0; round < 20; ++round) REQUIRE(each_runs_once(pool));
    }
    CHECK(ThreadPool().num_threads() == ThreadPool::available_cores());
}

TEST_CASE("thread pool: the first error comes out, and the pool goes on") {
    ThreadPool pool(3);
    CHECK_THROWS_AS(pool.parallel_for(50,
                                      [](int64_t i) {
                                          if (i == 7) throw std::out_of_range("7");
                                      }),
                    std::out_of_range);
    CHECK(each_runs_once(pool));
}

TEST_CASE("thread pool: threads that cannot start are done without") {
    const auto code = test::with_refused_calls({SYS_clone, SYS_clone3}, EAGAIN, [] {
        ThreadPool pool(64);
        return pool.num_threads() == 1 && each_runs_once(pool) ? 1 : 2;
    });
    if (!code) {
        WARN("skipped: no seccomp filters here");
        return;
    }
    CHECK(*code == 1);
}

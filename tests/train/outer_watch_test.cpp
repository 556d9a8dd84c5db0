// Ranks that hang before the run has a folder, or after it is over.
#include "train/outer_watch.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <utility>

#include "tests/base/refused_calls.h"
#include "tests/catch.h"
#include "tests/train/thread_ranks.h"

using namespace ballast;
using namespace ballast::train;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using namespace std::chrono_literals;

namespace {

/// A watch that hands over the rank it would end, and what it says.
struct WatchedRank {
    explicit WatchedRank(double timeout)
        : watch(timeout, [this](Communicator& ranks, const std::string& report) {
              ended.set_value({ranks.rank(), report});
          }) {}

    std::promise<std::pair<int, std::string>> ended;
    std::future<std::pair<int, std::string>> told = ended.get_future();
    OuterWatch watch;  // ends before what its thread uses
};

}  // namespace

TEST_CASE("start: a rank that hangs before the run has a folder says in what") {
    ThreadWorld world(3);
    ThreadRank second(world, 1);
    WatchedRank before_mpi(0.2), after(0.2);
    before_mpi.watch.enter("starting MPI", WaitsFor::ranks);
    after.watch.set_ranks(second);
    after.watch.enter("opening the data", WaitsFor::nobody);
    REQUIRE(before_mpi.told.wait_for(60s) == std::future_status::ready);
    REQUIRE(after.told.wait_for(60s) == std::future_status::ready);
    const auto [no_rank, mpi] = before_mpi.told.get();
    CHECK(no_rank == 0);
    CHECK_THAT(mpi, ContainsSubstring("the start hangs: a rank (") &&
                        ContainsSubstring("process " + std::to_string(::getpid()) + ") has been starting MPI for") &&
                        ContainsSubstring("another rank was not started") &&
                        ContainsSubstring("train.hang_timeout_seconds = 0.2"));
    const auto [rank, data] = after.told.get();
    CHECK(rank == 1);
    CHECK_THAT(data, ContainsSubstring("the start hangs: rank 1 (") &&
                         ContainsSubstring("has been opening the data for") && ContainsSubstring("file system"));
}

TEST_CASE("start: the rank at fault speaks before those that wait for it") {
    WatchedRank waits(3), hangs(3);
    waits.watch.enter("waiting for all ranks", WaitsFor::ranks);
    hangs.watch.enter("opening the data", WaitsFor::nobody);
    REQUIRE(hangs.told.wait_for(60s) == std::future_status::ready);
    CHECK(waits.told.wait_for(1s) == std::future_status::timeout);
}

TEST_CASE("end: training has another watch, and a rank that hangs after it says in what and ends alone") {
    ThreadWorld world(3);
    ThreadRank second(world, 1);
    WatchedRank trains(0.1), ends(0.1);
    for (WatchedRank* rank : {&trains, &ends}) {
        rank->watch.set_ranks(second);
        rank->watch.enter("opening the data", WaitsFor::nobody);
        rank->watch.pause();
    }
    CHECK(ends.told.wait_for(1s) == std::future_status::timeout);
    ends.watch.enter("leaving the other ranks", WaitsFor::ranks);
    ends.watch.leave_ranks();
    REQUIRE(ends.told.wait_for(60s) == std::future_status::ready);
    const auto [rank, report] = ends.told.get();
    CHECK(rank == 0);  // alone
    CHECK_THAT(report, ContainsSubstring("the end hangs: rank 1 (") &&
                           ContainsSubstring("has been leaving the other ranks for"));
    CHECK(trains.told.wait_for(0s) == std::future_status::timeout);
}

TEST_CASE("start: a start that moves, one that waits for a reader and one without a deadline are left alone") {
    WatchedRank moves(1), reads(0.1), never(0), over(0.1);
    reads.watch.enter("printing its plan", WaitsFor::reader);
    never.watch.enter("opening the data", WaitsFor::nobody);
    over.watch.enter("opening the data", WaitsFor::nobody);
    over.watch.stop();
    for (int i = 0; i < 15; ++i) {
        moves.watch.enter(i % 2 == 0 ? "opening the data" : "allocating", WaitsFor::nobody);
        std::this_thread::sleep_for(100ms);
    }
    for (WatchedRank* start : {&moves, &reads, &never, &over})
        CHECK(start->told.wait_for(0s) == std::future_status::timeout);
}

TEST_CASE("start: where the system refuses a thread there is no watch, and nothing ends", "[cpu]") {
    const auto code = with_refused_calls({SYS_clone, SYS_clone3}, EAGAIN, [] {
        WatchedRank start(0.1);
        start.watch.enter("opening the data", WaitsFor::nobody);
        return start.told.wait_for(500ms) == std::future_status::timeout ? 1 : 2;
    });
    if (code)
        CHECK(*code == 1);
    else
        WARN("skipped: no system call filters here");
}

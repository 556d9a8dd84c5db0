// Hung ranks: what is known of a rank's place, who is blamed, and that the watch tells it.
#include "train/hang_watch.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <future>

#include "base/atomic_file.h"
#include "base/build_info.h"
#include "tests/base/refused_calls.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/train/heartbeat_fixture.h"
#include "tests/train/thread_ranks.h"
#include "train/timeline.h"

using namespace ballast;
using namespace ballast::train;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr double kTimeout = 100;
constexpr auto kSoon = std::chrono::seconds(60);  // far longer than the watch needs

RankView view(int rank, Place place, int64_t step, double still, double silent = 0) {
    return {rank, heartbeat_of(rank, place, step, still), silent, ""};
}

constexpr Place kExchange{Activity::exchange_gradients, 3}, kBackward{Activity::backward, 7};

/// A watch of its own thread's places that hands over what it says.
struct Watched {
    Watched(const Communicator& ranks, const std::string& folder, double timeout)
        : watch(timeline.places(), ranks, folder, timeout,
                [this](const std::string& text) { report.set_value(text); }) {}

    std::string wait() {
        REQUIRE(told.wait_for(kSoon) == std::future_status::ready);
        return told.get();
    }

    std::promise<std::string> report;
    std::future<std::string> told = report.get_future();
    Timeline timeline;
    HangWatch watch;
};

}  // namespace

TEST_CASE("hang: every activity has a name of its own, and comes back from a heartbeat") {
    const std::vector<Activity> all = [] {
        std::vector<Activity> list;
        for (int32_t a = 0; a <= static_cast<int32_t>(Activity::agree_on_end); ++a) list.push_back(Activity(a));
        return list;
    }();
    for (const Activity activity : all) {
        Heartbeat beat{3, "a \"host\"", 77, 5, 120, {activity, 9}, 1.5, true};
        const auto back = Heartbeat::parse(beat.to_json());
        REQUIRE(back.has_value());
        CHECK(back->place == beat.place);
        CHECK((back->rank == 3 && back->host == beat.host && back->pid == 77 && back->beat == 5 && back->step == 120));
        CHECK((back->still == 1.5 && back->debugger));
        CHECK(activity_of(name_of(activity)) == activity);
    }
    CHECK(describe(kBackward) == "backward of layer 7");
    CHECK(describe(kExchange) == "exchange of gradients, bucket 3");
    CHECK(describe({Activity::head}) == "head and loss");
    for (const char* text : {"", "{", "[]", "{\"rank\":1}", "null"}) CHECK_FALSE(Heartbeat::parse(text));
}

TEST_CASE("hang: a place is the waiting thread's, or of the thread that it waits for") {
    Timeline timeline;
    const auto decisive = [&] { return timeline.places().now().decisive(); };
    CHECK(decisive() == Place{});
    const uint64_t before = timeline.places().now().moves;
    {
        const Span pass(&timeline, Track::compute, {Activity::pass, 2});
        const Span exchange(&timeline, Track::communication, kExchange);
        CHECK(decisive() == Place{Activity::pass, 2});
        {
            const Span waits(&timeline, Track::compute, {Activity::wait_for_reduction});
            CHECK(decisive() == kExchange);
        }
        const Span saves(&timeline, Track::saving, {Activity::write_checkpoint});
        CHECK(decisive() == Place{Activity::pass, 2});
        const Span waits(&timeline, Track::compute, {Activity::wait_for_save});
        CHECK(decisive() == Place{Activity::write_checkpoint});
    }
    const Span waits(&timeline, Track::compute, {Activity::wait_for_reduction});
    CHECK(decisive() == Place{Activity::wait_for_reduction});
    CHECK(timeline.places().now().moves > before);
    timeline.places().begin_step(5);
    CHECK(timeline.places().now().step == 5);
}

TEST_CASE("hang: nobody is blamed while one rank moves, has time left or is under a debugger") {
    const RankView waits = view(0, kExchange, 120, 500);
    for (const RankView& other :
         {view(1, kBackward, 120, 99.9), view(1, {Activity::validation}, 120, 3), view(1, {Activity::save}, 120, 299),
          view(1, {Activity::device}, 120, 299), view(1, {Activity::show}, 120, 1e9),
          view(1, kExchange, 120, 99, longest_silence(kTimeout) - 1)})
        CHECK_FALSE(hang_report(std::vector{waits, other}, kTimeout));
    RankView debugged = view(1, kBackward, 120, 500);
    debugged.last->debugger = true;
    CHECK_FALSE(hang_report(std::vector{waits, debugged}, kTimeout));
    debugged.silent = 500;
    CHECK_FALSE(hang_report(std::vector{waits, debugged}, kTimeout));
    CHECK_FALSE(hang_report(std::vector{view(0, {Activity::show}, 1, 1e9)}, kTimeout));
    CHECK_FALSE(hang_report(std::vector{view(0, kBackward, 1, 99)}, kTimeout));
}

TEST_CASE("hang: the rank is named that is silent, else the one outside a collective, else where all wait") {
    RankView stopped = view(2, kBackward, 120, 4, 70);
    stopped.process = "is stopped";
    CHECK(hang_report(std::vector{view(0, kExchange, 120, 100), view(1, kExchange, 120, 101), stopped}, kTimeout) ==
          "rank 2 (node2, process 4002) gives no sign of life: no heartbeat for 70 s; it is stopped, last seen in "
          "backward of layer 7 of step 120; ranks 0 and 1 wait in exchange of gradients, bucket 3 of step 120");
    CHECK(
        hang_report(std::vector{view(0, kExchange, 120, 100), view(1, {Activity::agree_to_stop}, 119, 130),
                                view(2, kBackward, 120, 312)},
                    kTimeout) ==
        "rank 2 (node2, process 4002) lives but has been in backward of layer 7 of step 120 for 312 s; rank 1 waits in "
        "agreement whether to stop of step 119, rank 0 waits in exchange of gradients, bucket 3 of step 120");
    CHECK(
        hang_report(std::vector{view(0, kExchange, 120, 100), view(1, kExchange, 120, 250)}, kTimeout) ==
        "all 2 ranks have waited in the same collective, exchange of gradients, bucket 3 of step 120, for 250 s: look "
        "at the network");
    CHECK(
        hang_report(std::vector{view(0, kExchange, 120, 100), view(1, kExchange, 121, 101)}, kTimeout) ==
        "all ranks have waited for 101 s in different collectives: rank 0 waits in exchange of gradients, bucket 3 of "
        "step 120, rank 1 waits in exchange of gradients, bucket 3 of step 121");
    CHECK(hang_report(std::vector{view(0, {Activity::read_samples}, 7, 100)}, kTimeout) ==
          "rank 0 (node0, process 4000) lives but has been in reading samples of step 7 for 100 s");
    CHECK(hang_report(std::vector{view(0, kExchange, 120, 100), RankView{1, std::nullopt, 0, ""}}, kTimeout) ==
          "rank 0 waits in exchange of gradients, bucket 3 of step 120; nothing is known of rank 1");
}

TEST_CASE("hang: the first rank with a sign of life speaks") {
    CHECK(speaker(std::vector{view(0, kBackward, 1, 500, 90), view(1, kExchange, 1, 500), view(2, kExchange, 1, 500)},
                  kTimeout) == 1);
    CHECK(speaker(std::vector{RankView{0, std::nullopt, 0, ""}, view(1, kExchange, 1, 0, 90)}, kTimeout) == -1);
}

TEST_CASE("hang: hours in which the process was stopped count as two ticks") {
    using namespace std::chrono_literals;
    const auto begin = TickingTime::Clock::now();
    TickingTime time(1.0, begin);
    CHECK(time.tick(begin + 1s) == 1.0);
    CHECK(time.tick(begin + 5h) == 2.0);
    CHECK(time.tick(begin + 5h + 1500ms) == 1.5);
}

TEST_CASE("hang: a move ends the time that a rank has stood still") {
    Stillness still;
    CHECK(still.count(7, 1) == 0);
    CHECK(still.count(7, 1) == 1);
    CHECK(still.count(7, 2.5) == 3.5);
    CHECK(still.count(9, 1) == 0);
    CHECK(still.count(9, 0.5) == 0.5);
}

TEST_CASE("hang: a rank alone is told where it stands still") {
    const TemporaryFolder folder;
    Communicator alone;
    Watched watched(alone, folder.path(), 0.2);
    watched.timeline.places().begin_step(120);
    const Span span(&watched.timeline, Track::compute, kBackward);
    const std::string report = watched.wait();
    CHECK_THAT(report, ContainsSubstring("the run hangs: rank 0 ("));
    CHECK_THAT(report, ContainsSubstring("process " + std::to_string(::getpid()) + ")"));
    CHECK_THAT(report, ContainsSubstring("backward of layer 7 of step 120"));
    CHECK_THAT(report, ContainsSubstring("train.hang_timeout_seconds"));
}

TEST_CASE("hang: of two ranks the one that lives but does not come is blamed") {
    const TemporaryFolder folder;
    ThreadWorld world(2);
    const ThreadRank first(world, 0), second(world, 1);
    Watched waits(first, folder.path(), 1), hangs(second, folder.path(), 1);
    for (Watched* watched : {&waits, &hangs}) watched->timeline.places().begin_step(9);
    const Span collective(&waits.timeline, Track::compute, {Activity::gather_losses});
    const Span backward(&hangs.timeline, Track::compute, kBackward);
    const std::string report = waits.wait();
    CHECK(hangs.told.wait_for(std::chrono::milliseconds(500)) == std::future_status::timeout);  // one speaks
    CHECK_THAT(report, ContainsSubstring("rank 1 ("));
    CHECK_THAT(report, ContainsSubstring("lives but has been in backward of layer 7 of step 9"));
    CHECK_THAT(report, ContainsSubstring("rank 0 waits in gathering of losses of step 9"));
}

TEST_CASE("hang: a rank whose heartbeat stands still is blamed, whatever it was doing") {
    const TemporaryFolder folder;
    ThreadWorld world(2);
    const ThreadRank first(world, 0);
    const HeartbeatFolder beats(folder.path());
    Watched waits(first, folder.path(), 1);
    beats.write({1, "elsewhere", 4711, 12, 8, {Activity::gather_losses}, 0, false});
    const Span collective(&waits.timeline, Track::compute, {Activity::gather_losses});
    const std::string report = waits.wait();
    CHECK_THAT(report, ContainsSubstring("rank 1 (elsewhere, process 4711) gives no sign of life"));
    CHECK_THAT(report, ContainsSubstring("last seen in gathering of losses of step 8"));
}

TEST_CASE("hang: heartbeats are gone when the watch ends, and a folder that refuses them ends nothing") {
    const TemporaryFolder folder;
    ThreadWorld world(2);
    const ThreadRank first(world, 0);
    {
        Watched watched(first, folder.path(), 1000);
        const HeartbeatFolder beats(folder.path());
        while (!beats.read(0)) std::this_thread::yield();
        CHECK(beats.read(0)->pid == ::getpid());
    }
    CHECK_FALSE(std::filesystem::exists(folder / "heartbeats"));
    write_file(folder / "heartbeats", "a file in its place");
    Watched watched(first, folder.path(), 1000);
}

TEST_CASE("hang: where the system refuses a thread there is no watch, and nothing ends", "[cpu]") {
    if (!build_info().sanitizers.empty()) {
        WARN("skipped: sanitizers start threads of their own");
        return;
    }
    const TemporaryFolder folder;
    const auto watches = [&] {
        Communicator alone;
        const Watched watched(alone, folder.path(), 1000);
        return watched.watch.is_watching() ? 2 : 1;
    };
    CHECK(with_room_for_one_thread(watches) == 1);
    CHECK_FALSE(std::filesystem::exists(folder / "heartbeats"));
    if (const auto code = with_refused_calls({SYS_clone, SYS_clone3}, EAGAIN, watches))
        CHECK(*code == 1);
    else
        WARN("not shown for the first thread: no system call filters here");
    CHECK(watches() == 2);
}

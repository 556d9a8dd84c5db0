#include "base/task_thread.h"

#include <cerrno>
#include <vector>

#include "tests/base/message_of.h"
#include "tests/base/refused_calls.h"
#include "tests/catch.h"

using namespace ballast;

TEST_CASE("task thread: tasks run in order, wait() waits for all, the destructor too") {
    std::vector<int> done;
    {
        TaskThread thread;
        thread.wait();
        for (int round = 0; round < 3; ++round) {
            for (int i = 0; i < 10; ++i) thread.post([&done, i, round] { done.push_back(10 * round + i); });
            if (round < 2) thread.wait();
            if (round < 2) CHECK(done.size() == static_cast<size_t>(10 * (round + 1)));
        }
    }
    REQUIRE(done.size() == 30);
    for (int i = 0; i < 30; ++i) CHECK(done[static_cast<size_t>(i)] == i);
}

TEST_CASE("task thread: an error reaches who waits, once, and leaves out what was posted after it") {
    TaskThread thread;
    bool ran = false;
    thread.post([] { throw UserError("broken"); });
    thread.post([&] { ran = true; });
    CHECK(ballast::test::message_of([&] { thread.wait(); }) == "broken");
    CHECK_FALSE(ran);
    thread.post([&] { ran = true; });
    thread.wait();
    CHECK(ran);
}

TEST_CASE("task thread: where the system refuses it, tasks run where they are posted") {
    const auto code = ballast::test::with_refused_calls({SYS_clone, SYS_clone3}, EAGAIN, [] {
        TaskThread thread;
        std::vector<int> done;
        for (int i = 0; i < 3; ++i) thread.post([&done, i] { done.push_back(i); });
        thread.wait();
        const bool in_order = done == std::vector<int>{0, 1, 2};
        thread.post([] { throw UserError("broken"); });
        thread.post([&] { done.clear(); });
        const bool told = ballast::test::message_of([&] { thread.wait(); }) == "broken";
        thread.wait();
        return in_order && told && done.size() == 3 ? 1 : 2;
    });
    if (!code) {
        WARN("skipped: no seccomp filters here");
        return;
    }
    CHECK(*code == 1);
}

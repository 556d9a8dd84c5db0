#include "base/task_thread.h"

#include <vector>

#include "tests/base/message_of.h"
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

#include "base/progress.h"

#include <cmath>

#include "base/log.h"
#include "base/utf8_cut.h"
#include "tests/base/standard_error.h"
#include "tests/catch.h"

using namespace ballast;
using ballast::test::standard_error_of;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("progress: durations and counts in few characters") {
    CHECK(format_duration(0) == "0s");
    CHECK(format_duration(59.4) == "59s");
    CHECK(format_duration(59.6) == "1m00s");
    CHECK(format_duration(192) == "3m12s");
    CHECK(format_duration(7500) == "2h05m");
    CHECK(format_duration(3 * 86400 + 4 * 3600) == "3d04h");
    CHECK(format_duration(-5) == "0s");
    CHECK(format_duration(1e300) == "a very long time");
    CHECK(format_duration(std::nan("")) == "a very long time");
    CHECK(format_count(0) == "0");
    CHECK(format_count(3.14159) == "3.1");
    CHECK(format_count(417) == "417");
    CHECK(format_count(999.4) == "999");
    CHECK(format_count(999.9) == "1.0k");
    CHECK(format_count(1500) == "1.5k");
    CHECK(format_count(99960) == "100k");
    CHECK(format_count(999600) == "1.0M");
    CHECK(format_count(23.4e6) == "23.4M");
    CHECK(format_count(1.2e9) == "1.2G");
    CHECK(format_count(2.5e15) == "2500T");
}

TEST_CASE("progress: a line says how far, how fast and how long") {
    ProgressState state{"train", "steps", "loss 3.21", 420, 1000, 2.9, 150, false};
    CHECK(format_progress(state, 0) == "train  42% 420/1.0k steps  2.9 steps/s  3m20s left  loss 3.21");
    CHECK_THAT(format_progress(state, 120), ContainsSubstring("│██████████"));
    for (size_t width : {40, 41, 55, 80})
        CHECK(count_characters(format_progress(state, static_cast<int>(width))) <= width);
    state.per_second = 0.25;
    CHECK_THAT(format_progress(state, 0), ContainsSubstring("4.0 s/step  "));
    state.done = 999;
    CHECK_THAT(format_progress(state, 0), ContainsSubstring(" 99%"));  // 100% is for the end
    state.done = 1000;
    state.finished = true;
    CHECK_THAT(format_progress(state, 0), ContainsSubstring("100%") && ContainsSubstring("in 2m30s"));
    state = {"read", "bytes", "", 12345678, 0, 1e6, 12, false};
    CHECK(format_progress(state, 80) == "read 12.3M bytes  1.0M bytes/s");
    state.per_second = 0;
    CHECK(format_progress(state, 80) == "read 12.3M bytes");
    state = {"odd", "units", "", 2000, 1000, 1, 1, false};  // more done than planned
    CHECK_THAT(format_progress(state, 0), ContainsSubstring("0s left"));
}

TEST_CASE("progress: the rate is the average at first and follows a change later") {
    RateEstimate rate(500);  // a resumed run: what was done before does not count
    rate.update(1, 510);
    CHECK(std::abs(rate.per_second() - 10) <= 1e-12);
    for (int s = 2; s <= 100; ++s) rate.update(s, 500 + 10 * s);
    CHECK(std::abs(rate.per_second() - 10) <= 1e-9);
    for (int s = 101; s <= 200; ++s) rate.update(s, 1500 + 40 * (s - 100));
    CHECK(std::abs(rate.per_second() - 40) <= 0.1);
    RateEstimate slow(0);  // one step takes far longer than the smoothing
    slow.update(600, 1);
    CHECK(std::abs(slow.per_second() - 1.0 / 600) <= 1e-12);
    RateEstimate none(0);
    CHECK(none.per_second() == 0);
    none.update(0, 0);
    CHECK(none.per_second() == 0);
}

TEST_CASE("progress: not a terminal, so one plain line at the end of short work") {
    const std::string text = standard_error_of([] {
        Progress progress("read", 100, "books");
        for (int i = 0; i < 100; ++i) progress.add(1);
        progress.set_suffix("12 skipped");
        progress.finish();
        progress.finish();
    });
    CHECK_THAT(text, ContainsSubstring("read 100% 100/100 books") && ContainsSubstring("12 skipped\n"));
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(standard_error_of([] { Progress abandoned("read", 100, "books"); }).empty());
}

TEST_CASE("log: one line a message, without colour in a file") {
    const std::string text = standard_error_of([] {
        log_info("all {well}");
        log_warning("careful");
        log_error("broken");
    });
    CHECK_THAT(text, ContainsSubstring("] all {well}\n") && ContainsSubstring("] warning: careful\n") &&
                         ContainsSubstring("] error: broken\n"));
    CHECK(std::count(text.begin(), text.end(), '\n') == 3);
    CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("log: messages appear above the status line") {
    const std::string text = standard_error_of([] {
        show_status_line("half way");
        log_info("saved");
        leave_status_line();
        log_info("done");
    });
    CHECK_THAT(text, ContainsSubstring("half way\r\x1b[K[") && ContainsSubstring("saved\nhalf way\n["));
}

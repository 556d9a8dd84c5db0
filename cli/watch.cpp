// ballast watch RUN…
#include <algorithm>
#include <fmt/format.h>
#include <iostream>

#include "base/path_labels.h"
#include "base/terminal.h"
#include "cli/commands.h"
#include "report/watched_run.h"

namespace ballast {
namespace {

using report::RunWatcher;

struct WatchOptions {
    std::vector<std::string> runs;
    bool once = false;
};

std::vector<std::string> frame(const std::vector<RunWatcher>& watchers, int rows_kept) {
    std::vector<report::WatchedRun> runs;
    for (const RunWatcher& watcher : watchers) runs.push_back(watcher.run());
    const auto [columns, rows] = terminal_size();
    return report::draw_frame(runs, {columns, rows - rows_kept, colours_wanted()});
}

void print_frame(const std::vector<RunWatcher>& watchers) {
    for (const std::string& line : frame(watchers, 2)) std::cout << line << '\n';
}

bool all_ended(const std::vector<RunWatcher>& watchers) {
    return std::all_of(watchers.begin(), watchers.end(), [](const RunWatcher& watcher) { return watcher.ended(); });
}

/// True when it ended because the runs did, false when the user had enough.
bool follow(std::vector<RunWatcher>& watchers) {
    constexpr std::chrono::milliseconds kLook{500};
    FullScreen screen;
    for (bool changed = true; !all_ended(watchers);) {
        if (changed) {
            std::vector<std::string> lines = frame(watchers, 1);
            lines.push_back("q quits; the runs go on");
            screen.show(lines);
        }
        const FullScreen::Event event = screen.wait(kLook);
        if (event == FullScreen::Event::quit) return false;
        changed = event == FullScreen::Event::resized;
        for (RunWatcher& watcher : watchers) changed |= watcher.refresh();
    }
    return true;
}

void watch_command(const WatchOptions& options) {
    const std::vector<std::string> labels = path_labels(options.runs);
    std::vector<RunWatcher> watchers;
    for (size_t i = 0; i < labels.size(); ++i) watchers.emplace_back(options.runs[i], labels[i]);
    if (options.once || !output_is_terminal()) {
        print_frame(watchers);
        return;
    }
    if (!follow(watchers)) return;
    print_frame(watchers);
    std::vector<std::string> ends;
    for (const RunWatcher& watcher : watchers) ends.push_back(watcher.run().label + " " + watcher.run().state);
    std::cout << fmt::format("nothing trains any more: {}\n", fmt::join(ends, ", "));
}

}  // namespace

void add_watch_command(Command app) {
    auto o = std::make_shared<WatchOptions>();
    Command command = app.add_subcommand("watch", "Curves of runs in the terminal, and where their ranks are, while they train");
    command.add_option("runs", o->runs, "run folders; one that is not there yet is waited for").required();
    command.add_flag("--once", o->once, "print one frame and end, as it does where there is no terminal");
    command.footer(
        "Example:\n  ballast watch runs/vanilla runs/sink_token\n"
        "Ranks that the others may be waiting for have a ! before them.\n"
        "q or Ctrl-C quits and leaves the runs alone; it ends by itself when nothing trains any more. NO_COLOR is "
        "respected.");
    command.callback([o] { watch_command(*o); });
}

}  // namespace ballast

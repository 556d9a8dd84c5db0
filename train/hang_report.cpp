#include "train/hang_report.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <tuple>
#include <vector>

namespace ballast::train {
namespace {

using Views = std::vector<const RankView*>;

/// "ranks 0, 1 and 5"
std::string names(const Views& views) {
    std::string text = views.size() == 1 ? "rank " : "ranks ";
    for (size_t i = 0; i < views.size(); ++i)
        text += fmt::format("{}{}", i == 0 ? "" : i + 1 == views.size() ? " and " : ", ", views[i]->rank);
    return text;
}

std::string with_process(const RankView& view) {
    return fmt::format("rank {} ({}, process {})", view.rank, view.last->host, view.last->pid);
}

std::string where(const Heartbeat& last) { return fmt::format("{} of step {}", describe(last.place), last.step); }

/// "ranks 0 and 1 wait in …, rank 3 waits in …"
std::string waiting(const Views& views) {
    std::map<std::tuple<int64_t, Activity, int32_t>, Views> groups;
    for (const RankView* view : views)
        groups[{view->last->step, view->last->place.activity, view->last->place.number}].push_back(view);
    std::vector<std::string> each;
    for (const auto& [key, members] : groups)
        each.push_back(fmt::format("{} {} in {}", names(members), members.size() == 1 ? "waits" : "wait",
                                   where(*members.front()->last)));
    return fmt::format("{}", fmt::join(each, ", "));
}

std::string silent_ones(const Views& views) {
    std::vector<std::string> each;
    for (const RankView* view : views)
        each.push_back(fmt::format("{} gives no sign of life: no heartbeat for {:.0f} s{}{}, last seen in {}",
                                   with_process(*view), view->silent, view->process.empty() ? "" : "; it ",
                                   view->process, where(*view->last)));
    return fmt::format("{}", fmt::join(each, "; "));
}

std::string busy_ones(const Views& views) {
    std::vector<std::string> each;
    for (const RankView* view : views)
        each.push_back(fmt::format("{} lives but has been in {} for {:.0f} s", with_process(*view), where(*view->last),
                                   view->last->still));
    return fmt::format("{}", fmt::join(each, "; "));
}

std::string all_waiting(const Views& views) {
    const Heartbeat& first = *views.front()->last;
    const double still =
        std::max_element(views.begin(), views.end(),
                         [](const RankView* a, const RankView* b) { return a->last->still < b->last->still; })[0]
            ->last->still;
    const bool same = std::all_of(views.begin(), views.end(), [&](const RankView* view) {
        return view->last->step == first.step && view->last->place == first.place;
    });
    if (same)
        return fmt::format("all {} ranks have waited in the same collective, {}, for {:.0f} s: look at the network",
                           views.size(), where(first), still);
    return fmt::format("all ranks have waited for {:.0f} s in different collectives: {}", still, waiting(views));
}

bool is_silent(const RankView& view, double timeout) { return view.silent >= longest_silence(timeout); }

}  // namespace

double beat_interval(double timeout) { return std::min(5.0, timeout / 10); }

double longest_silence(double timeout) { return std::min(60.0, timeout / 3); }

int speaker(std::span<const RankView> ranks, double timeout) {
    for (const RankView& view : ranks)
        if (view.last && !is_silent(view, timeout)) return view.rank;
    return -1;
}

std::optional<std::string> hang_report(std::span<const RankView> ranks, double timeout) {
    Views silent, busy, wait, unknown;
    for (const RankView& view : ranks) {
        if (!view.last) {
            unknown.push_back(&view);
        } else if (view.last->debugger) {
            return std::nullopt;
        } else if (is_silent(view, timeout)) {
            silent.push_back(&view);
        } else if (view.last->still < timeout * patience(view.last->place.activity)) {
            return std::nullopt;
        } else {
            (is_collective(view.last->place.activity) ? wait : busy).push_back(&view);
        }
    }
    if (silent.empty() && busy.empty() && wait.empty()) return std::nullopt;
    if (silent.empty() && busy.empty() && unknown.empty()) return all_waiting(wait);
    std::vector<std::string> parts;
    if (!silent.empty()) parts.push_back(silent_ones(silent));
    if (!busy.empty()) parts.push_back(busy_ones(busy));
    if (!wait.empty()) parts.push_back(waiting(wait));
    if (!unknown.empty()) parts.push_back("nothing is known of " + names(unknown));
    return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace ballast::train

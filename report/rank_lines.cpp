#include "report/rank_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "base/progress.h"

namespace ballast::report {
namespace {

using train::Heartbeat;

constexpr double kStill = 10;   // seconds: longer than single ops and the look between two heartbeats
constexpr double kSilent = 15;  // seconds: three heartbeats

/// "3", "0-1 3-63"
std::string number_ranges(const std::vector<int>& ranks) {
    std::string text;
    for (size_t i = 0, end; i < ranks.size(); i = end) {
        for (end = i + 1; end < ranks.size() && ranks[end] == ranks[end - 1] + 1;) ++end;
        text += fmt::format("{}{}", text.empty() ? "" : " ", ranks[i]);
        if (end - i > 1) text += fmt::format("-{}", ranks[end - 1]);
    }
    return text;
}

std::string name_ranks(const std::vector<const SeenRank*>& ranks) {
    std::vector<int> numbers;
    for (const SeenRank* rank : ranks) numbers.push_back(rank->last.rank);
    if (numbers.size() == 1) return fmt::format("rank {}", numbers[0]);
    return fmt::format("ranks {} ({})", number_ranges(numbers), numbers.size());
}

/// The steps, and what is done by how many: layers and buckets are left out, because moving ranks change them all the
/// time.
RankLine describe_moving(const std::vector<const SeenRank*>& ranks) {
    const auto [least, most] = std::minmax_element(
        ranks.begin(), ranks.end(), [](const auto* a, const auto* b) { return a->last.step < b->last.step; });
    const std::string steps = (*least)->last.step == (*most)->last.step
                                  ? fmt::format("step {}", (*most)->last.step)
                                  : fmt::format("steps {}-{}", (*least)->last.step, (*most)->last.step);
    if (ranks.size() == 1)
        return {fmt::format("{}: {}, {}", name_ranks(ranks), steps, describe(ranks[0]->last.place)), false};
    std::map<std::string, int> counts;
    for (const SeenRank* rank : ranks) ++counts[train::describe({rank->last.place.activity, -1})];
    std::vector<std::pair<int, std::string>> doing;
    for (const auto& [what, count] : counts) doing.emplace_back(-count, what);
    std::sort(doing.begin(), doing.end());
    std::vector<std::string> parts;
    for (const auto& [count, what] : doing) parts.push_back(fmt::format("{} {}", -count, what));
    return {fmt::format("{}: {}, {}", name_ranks(ranks), steps, fmt::join(parts, ", ")), false};
}

bool stands_out(const SeenRank& rank) { return rank.is_silent() || !train::is_collective(rank.last.place.activity); }

/// Ranks at one place, the longest still first. Of those that stand out, the process is named.
RankLine describe_still(const std::vector<const SeenRank*>& ranks) {
    const SeenRank& first = **std::max_element(ranks.begin(), ranks.end(),
                                               [](const auto* a, const auto* b) { return a->still() < b->still(); });
    RankLine line{fmt::format("{}: step {}, {} for {}", name_ranks(ranks), first.last.step, describe(first.last.place),
                              format_duration(first.still())),
                  stands_out(first)};
    if (first.is_silent()) line.text += fmt::format(", no heartbeat for {}", format_duration(first.age));
    if (line.stands_out) line.text += fmt::format(" ({}, process {})", first.last.host, first.last.pid);
    return line;
}

/// A line, and how many ranks it is of.
struct Group {
    RankLine line;
    double still;
    size_t count;
};

std::vector<Group> group_still(const std::vector<const SeenRank*>& ranks) {
    std::map<std::tuple<bool, int64_t, std::string>, std::vector<const SeenRank*>> places;
    for (const SeenRank* rank : ranks)
        places[{rank->is_silent(), rank->last.step, describe(rank->last.place)}].push_back(rank);
    std::vector<Group> groups;
    for (const auto& [place, there] : places) {
        double longest = 0;
        for (const SeenRank* rank : there) longest = std::max(longest, rank->still());
        groups.push_back({describe_still(there), longest, there.size()});
    }
    std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
        return std::tuple(a.line.stands_out, a.still) > std::tuple(b.line.stands_out, b.still);
    });
    return groups;
}

}  // namespace

double SeenRank::still() const { return last.still + (is_silent() ? age : 0); }

bool SeenRank::is_silent() const { return age >= kSilent; }

std::vector<RankLine> describe_ranks(const std::vector<SeenRank>& ranks, size_t most) {
    std::vector<const SeenRank*> moving, still;
    for (const SeenRank& rank : ranks) (rank.still() < kStill ? moving : still).push_back(&rank);
    std::vector<Group> groups = group_still(still);
    if (!moving.empty()) groups.push_back({describe_moving(moving), 0, moving.size()});
    std::vector<RankLine> lines;
    const size_t shown = groups.size() <= most ? groups.size() : std::max<size_t>(most, 2) - 1;
    for (size_t i = 0; i < shown; ++i) lines.push_back(groups[i].line);
    if (shown == groups.size()) return lines;
    size_t left = 0;
    for (size_t i = shown; i < groups.size(); ++i) left += groups[i].count;
    const std::string rest = fmt::format("and {} more ranks at {} places", left, groups.size() - shown);
    if (most == 1)
        lines[0].text += ", " + rest;
    else
        lines.push_back({rest, false});
    return lines;
}

}  // namespace ballast::report

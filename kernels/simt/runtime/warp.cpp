#include "kernels/simt/runtime/warp.h"

#include <algorithm>
#include <bit>

#include "kernels/simt/host.h"
#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/sanitizers.h"

namespace ballast::simt {

bool Executor::try_complete(Warp& warp, size_t index) {
    Warp::Meeting& meeting = warp.meetings[index];
    const unsigned needed = meeting.mask & warp.alive;  // lanes that have exited do not count
    if (meeting.arrived == 0 || (meeting.arrived & needed) != needed) return false;
    meeting.combine(Lanes(meeting.deposits.data(), meeting.arrived));
    for (unsigned lanes = meeting.arrived; lanes != 0; lanes &= lanes - 1) {
        Fiber& other = fiber(warp.id * 32 + static_cast<unsigned>(std::countr_zero(lanes)));
        if (&other != running_) queue_.push(&other);
    }
    warp.meetings.erase(warp.meetings.begin() + static_cast<std::ptrdiff_t>(index));
    return true;
}

void meet(unsigned mask, void* deposit, Combine combine, const char* what, Location where) {
    Executor& executor = Executor::current();
    Fiber& me = executor.running();
    Warp& warp = *me.warp;
    if (!(mask >> me.lane() & 1)) fail(std::string(what) + ": the calling lane is not in the mask", where);
    size_t index = 0;
    while (index < warp.meetings.size() && warp.meetings[index].mask != mask) ++index;
    if (index == warp.meetings.size()) warp.meetings.push_back({mask, 0, combine, where, {}});
    Warp::Meeting& meeting = warp.meetings[index];
    if (meeting.combine != combine || !same(meeting.where, where))
        fail(std::string(what) + ": other lanes of the warp are at " + text_of(meeting.where), where);
    meeting.deposits[me.lane()] = deposit;
    meeting.arrived |= 1u << me.lane();
    if (!executor.try_complete(warp, index)) executor.wait(what, where);
}

namespace host {
namespace {

struct Exchange {
    uint64_t value, result;
    int argument, width;
};

/// The lane that `lane` reads from in a shuffle.
template <Shuffle kind>
int source_lane(int lane, const Exchange& mine) {
    const int base = lane / mine.width * mine.width, end = base + mine.width;
    switch (kind) {
        case Shuffle::index: return base + (mine.argument & (mine.width - 1));
        case Shuffle::up: return lane - mine.argument < base ? lane : lane - mine.argument;
        case Shuffle::down: return lane + mine.argument >= end ? lane : lane + mine.argument;
        case Shuffle::exclusive_or: return (lane ^ mine.argument) >= end ? lane : lane ^ mine.argument;
    }
    return lane;
}

template <Shuffle kind>
void combine_shuffle(const Lanes& lanes) {
    ++statistics().warp_operations;
    for (unsigned i = 0; i < 32; ++i) {
        if (!lanes.has(i)) continue;
        auto& mine = lanes.at<Exchange>(i);
        const auto source = static_cast<unsigned>(source_lane<kind>(static_cast<int>(i), mine));
        // What an absent lane would give is undefined on a GPU; here it is all ones, a NaN.
        mine.result = lanes.has(source) ? lanes.at<Exchange>(source).value : ~uint64_t{0};
    }
}

template <Reduction kind>
uint64_t reduced(uint64_t a, uint64_t b) {
    switch (kind) {
        case Reduction::add: return static_cast<uint32_t>(a + b);
        case Reduction::minimum: return std::min(a, b);
        case Reduction::maximum: return std::max(a, b);
        case Reduction::bit_and: return a & b;
        case Reduction::bit_or: return a | b;
        case Reduction::bit_xor: return a ^ b;
    }
    return a;
}

template <Reduction kind>
void combine_reduction(const Lanes& lanes) {
    ++statistics().warp_operations;
    const auto first = static_cast<unsigned>(std::countr_zero(lanes.active()));
    uint64_t result = lanes.at<Exchange>(first).value;
    for (unsigned i = first + 1; i < 32; ++i)
        if (lanes.has(i)) result = reduced<kind>(result, lanes.at<Exchange>(i).value);
    for (unsigned i = first; i < 32; ++i)
        if (lanes.has(i)) lanes.at<Exchange>(i).result = result;
}

void combine_ballot(const Lanes& lanes) {
    ++statistics().warp_operations;
    uint64_t votes = 0;
    for (unsigned i = 0; i < 32; ++i)
        if (lanes.has(i) && lanes.at<Exchange>(i).value != 0) votes |= uint64_t{1} << i;
    for (unsigned i = 0; i < 32; ++i)
        if (lanes.has(i)) lanes.at<Exchange>(i).result = votes;
}

void combine_match(const Lanes& lanes) {
    ++statistics().warp_operations;
    for (unsigned i = 0; i < 32; ++i) {
        if (!lanes.has(i)) continue;
        auto& mine = lanes.at<Exchange>(i);
        mine.result = 0;
        for (unsigned j = 0; j < 32; ++j)
            if (lanes.has(j) && lanes.at<Exchange>(j).value == mine.value) mine.result |= uint64_t{1} << j;
    }
}

void combine_sync(const Lanes&) { ++Executor::current().running().warp->syncs; }

uint64_t exchange(Combine combine, unsigned mask, uint64_t value, int argument, int width, const char* what,
                  Location where) {
    const Quiet quiet;
    Exchange mine{value, 0, argument, width};
    meet(mask, &mine, combine, what, where);
    return mine.result;
}

}  // namespace

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, Location where) {
    constexpr Combine kCombine[] = {combine_shuffle<Shuffle::index>, combine_shuffle<Shuffle::up>,
                                    combine_shuffle<Shuffle::down>, combine_shuffle<Shuffle::exclusive_or>};
    return exchange(kCombine[static_cast<int>(kind)], mask, value, argument, width, "shuffle", where);
}

uint32_t reduce(Reduction kind, unsigned mask, uint32_t value, Location where) {
    constexpr Combine kCombine[] = {combine_reduction<Reduction::add>,     combine_reduction<Reduction::minimum>,
                                    combine_reduction<Reduction::maximum>, combine_reduction<Reduction::bit_and>,
                                    combine_reduction<Reduction::bit_or>,  combine_reduction<Reduction::bit_xor>};
    return static_cast<uint32_t>(exchange(kCombine[static_cast<int>(kind)], mask, value, 0, 32, "reduce", where));
}

unsigned ballot(unsigned mask, bool predicate, Location where) {
    return static_cast<unsigned>(exchange(combine_ballot, mask, predicate, 0, 32, "vote", where));
}

unsigned match_any(unsigned mask, uint64_t value, Location where) {
    return static_cast<unsigned>(exchange(combine_match, mask, value, 0, 32, "match", where));
}

void sync_warp(unsigned mask, Location where) {
    const Quiet quiet;
    Warp& warp = *Executor::current().running().warp;
    char& order = warp.sync_order[warp.syncs & 1];
    release(&order);
    char nothing = 0;
    meet(mask, &nothing, combine_sync, "__syncwarp", where);
    acquire(&order);
}

int lane() { return static_cast<int>(Executor::current().running().lane()); }

void yield() { Executor::current().yield(); }

}  // namespace host
}  // namespace ballast::simt

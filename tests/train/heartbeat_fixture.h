// The last heartbeat of a rank that never ran.
#pragma once

#include <string>

#include "train/heartbeat.h"

namespace ballast::test {

/// Of process 4000 + rank on the host "node<rank>".
inline train::Heartbeat heartbeat_of(int rank, train::Place place, int64_t step, double still) {
    train::Heartbeat last;
    last.rank = rank;
    last.host = "node" + std::to_string(rank);
    last.pid = 4000 + rank;
    last.step = step;
    last.place = place;
    last.still = still;
    return last;
}

}  // namespace ballast::test

// The executor's only queue: work runs at once, or is kept while a recording is open. So a replay sees the same as a
// GPU's graph: arguments of the time of recording, and memory of the time of replay.
#pragma once

#include <functional>
#include <vector>

namespace ballast::simt {

/// Runs `work`, or keeps it when a recording is open on this OS thread.
void queue(std::function<void()> work);

/// The work that `work` queued, not yet run.
std::vector<std::function<void()>> record(const std::function<void()>& work);

/// Error when a recording is open: `what` cannot be recorded.
void forbid_in_recording(const char* what);

}  // namespace ballast::simt

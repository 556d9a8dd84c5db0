// The executor's only queue: work is done at once, or kept while a recording is open. So a graph's replay sees what a
// GPU's would: arguments as they were when it was recorded, memory as it is when it is replayed.
#pragma once

#include <functional>
#include <vector>

namespace ballast::simt {

/// Does `work`, or keeps it when a recording is open on this OS thread.
void queue(std::function<void()> work);

/// What `work` queued, undone.
std::vector<std::function<void()>> record(const std::function<void()>& work);

/// Error when a recording is open: `what` cannot be part of one.
void forbid_in_recording(const char* what);

}  // namespace ballast::simt

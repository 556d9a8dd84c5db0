#include "kernels/simt/queue.h"

#include <string>
#include <utility>

#include "kernels/simt/options.h"

namespace ballast::simt {
namespace {

thread_local std::vector<std::function<void()>>* recording = nullptr;

}  // namespace

void queue(std::function<void()> work) {
    if (recording == nullptr) return work();
    recording->push_back(std::move(work));
}

std::vector<std::function<void()>> record(const std::function<void()>& work) {
    forbid_in_recording("another recording");
    std::vector<std::function<void()>> pieces;
    struct Open {
        explicit Open(std::vector<std::function<void()>>* to) { recording = to; }
        ~Open() { recording = nullptr; }
    } open(&pieces);
    work();
    return pieces;
}

void forbid_in_recording(const char* what) {
    if (recording != nullptr) throw Error(std::string(what) + " cannot be part of a recording");
}

}  // namespace ballast::simt

#include <chrono>
#include <cstring>
#include <set>

#include "base/cpu_features.h"
#include "base/error.h"
#include "kernels/cuda/runtime.h"
#include "kernels/simt/device_memory.h"
#include "kernels/simt/queue.h"

namespace ballast::cuda {
namespace {

/// As in CUDA, a recording takes in every stream that waits for one of its own, and each of those has to be waited for
/// before it ends. Work on another stream would not be recorded.
struct OpenRecording {
    std::set<GpuStream> streams, not_waited_for;

    void add_wait(GpuStream waiting, GpuStream before) {
        if (!streams.contains(before)) return;
        not_waited_for.erase(before);
        if (streams.insert(waiting).second) not_waited_for.insert(waiting);
    }
};
thread_local OpenRecording* open_recording = nullptr;

/// A launch is over when it returns, so nothing is ever queued and no stream has to wait.
class SimtState : public GpuState {
  public:
    GpuStream stream() const override {
        require(open_recording == nullptr || open_recording->streams.contains(name()),
                "work on a queue that the open recording has not taken in");
        return name();
    }
    void queue_wait_for(GpuState& other) override {
        if (open_recording != nullptr) open_recording->add_wait(name(), static_cast<SimtState&>(other).name());
    }

  private:
    GpuStream name() const { return reinterpret_cast<GpuStream>(const_cast<SimtState*>(this)); }
};

class SimtGraph : public Graph {
  public:
    explicit SimtGraph(std::vector<std::function<void()>> work) : work_(std::move(work)) {}
    void launch(GpuStream) override {
        for (const auto& piece : work_) piece();
    }

  private:
    std::vector<std::function<void()>> work_;
};

class ClockStopwatch : public Stopwatch {
  public:
    void start(GpuStream) override { begin_ = Clock::now(); }
    double stop(GpuStream) override { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point begin_;
};

}  // namespace

Device built_device() { return Device::simt; }
int num_devices() { return 1; }
void use_device(int) {}
std::string why_unusable() { return ""; }
std::string description() { return "the CUDA kernels on the CPU, for tests"; }

std::unique_ptr<GpuState> make_state(bool) { return std::make_unique<SimtState>(); }

void* allocate(size_t bytes) {
    simt::forbid_in_recording("allocating");
    void* memory = simt::allocate_device_memory(bytes);
    if (memory == nullptr) throw UserError("not enough memory for the SIMT executor");
    zero(memory, bytes, nullptr);
    return memory;
}

void release(void* memory) noexcept { simt::release_device_memory(memory); }

void copy_to_host(void* host, const void* device, size_t bytes, GpuStream) {
    simt::forbid_in_recording("reading back");
    const simt::DeviceAccess access(device);
    std::memcpy(host, device, bytes);
}

void copy_from_host(void* device, const void* host, size_t bytes, GpuStream) {
    simt::forbid_in_recording("a copy that is waited for");
    const simt::DeviceAccess access(device);
    std::memcpy(device, host, bytes);
}

void* allocate_host(size_t bytes) { return std::calloc(1, bytes); }
void release_host(void* memory) noexcept { std::free(memory); }

void queue_copy(void* to, const void* from, size_t bytes, GpuStream) {
    simt::queue([=] {
        const simt::DeviceAccess access;
        std::memcpy(to, from, bytes);
    });
}

void copy_on_device(void* to, const void* from, size_t bytes, GpuStream stream) { queue_copy(to, from, bytes, stream); }

DeviceMemory device_memory() { return {}; }

std::unique_ptr<Stopwatch> make_stopwatch() { return std::make_unique<ClockStopwatch>(); }

void synchronise() { simt::forbid_in_recording("waiting"); }  // launches finish before they return
void synchronise(GpuStream) { synchronise(); }

bool is_reachable(const void* p) { return simt::is_device_memory(p); }

void zero(void* device, size_t bytes, GpuStream) {
    simt::queue([=] {
        const simt::DeviceAccess access(device);
        std::memset(device, 0, bytes);
    });
}

std::unique_ptr<Graph> record(GpuStream stream, const std::function<void()>& work) {
    OpenRecording recording{{stream}, {}};
    struct Open {
        explicit Open(OpenRecording* to) { open_recording = to; }
        ~Open() { open_recording = nullptr; }
    };
    auto pieces = [&] {
        const Open open(&recording);
        return simt::record(work);
    }();
    require(recording.not_waited_for.empty(), "a recording ends before it has waited for another queue's work");
    return std::make_unique<SimtGraph>(std::move(pieces));
}

void push_range(const char*) {}
void pop_range() {}

}  // namespace ballast::cuda

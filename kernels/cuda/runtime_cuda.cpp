#include <cuda_runtime.h>
#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "kernels/cuda/architectures.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/state_cuda.h"

namespace ballast::simt {

[[noreturn]] void throw_cuda_error(cudaError_t error, const char* what) {
    throw RunError(fmt::format("CUDA: {} failed: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error)));
}

}  // namespace ballast::simt

namespace ballast::cuda {
namespace {

void check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) simt::throw_cuda_error(error, what);
}

class CudaGraph : public Graph {
  public:
    /// Takes `graph` over.
    explicit CudaGraph(cudaGraph_t graph) {
        const cudaError_t error = cudaGraphInstantiate(&executable_, graph, 0);
        cudaGraphDestroy(graph);
        check(error, "preparing a graph");
    }
    ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
    void launch(GpuStream stream) override { check(cudaGraphLaunch(executable_, stream), "launching a graph"); }

  private:
    cudaGraphExec_t executable_ = nullptr;
};

/// Of the process; each thread has to tell CUDA.
std::atomic<int> used_device{0};

double gibibytes(size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

class EventStopwatch : public Stopwatch {
  public:
    EventStopwatch() {
        enter_device();
        for (cudaEvent_t& event : events_) check(cudaEventCreate(&event), "making an event");
    }
    ~EventStopwatch() override {
        for (cudaEvent_t event : events_) cudaEventDestroy(event);
    }
    void start(GpuStream stream) override { check(cudaEventRecord(events_[0], stream), "an event"); }
    double stop(GpuStream stream) override {
        check(cudaEventRecord(events_[1], stream), "an event");
        check(cudaEventSynchronize(events_[1]), "the work before an event");
        float milliseconds = 0;
        check(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "the time between two events");
        return static_cast<double>(milliseconds) * 1e-3;
    }

  private:
    cudaEvent_t events_[2]{};
};

}  // namespace

Device built_device() { return Device::cuda; }

int num_devices() {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess ? devices : 0;
}

void use_device(int number) {
    used_device = number;
    enter_device();
}

void enter_device() {
    thread_local int entered = 0;  // CUDA's own first device of a thread
    const int wanted = used_device.load(std::memory_order_relaxed);
    if (std::exchange(entered, wanted) != wanted) check(cudaSetDevice(wanted), "choosing a device");
}

std::string why_unusable() {
    int devices = 0;
    switch (const cudaError_t error = cudaGetDeviceCount(&devices); error) {
        case cudaSuccess: break;
        case cudaErrorNoDevice: return "there is no CUDA device here; use --backend cpu";
        case cudaErrorInsufficientDriver: {
            int driver = 0, built = 0;
            cudaDriverGetVersion(&driver);
            cudaRuntimeGetVersion(&built);
            if (driver == 0) return "there is no NVIDIA driver here; use --backend cpu";
            return fmt::format(
                "the NVIDIA driver supports CUDA {}.{}, but this program was built with {}.{}; update the "
                "driver, or use --backend cpu",
                driver / 1000, driver % 1000 / 10, built / 1000, built % 1000 / 10);
        }
        default: return fmt::format("CUDA does not start: {}; use --backend cpu", cudaGetErrorString(error));
    }
    if (devices == 0) return "there is no CUDA device here; use --backend cpu";
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, used_device), "reading the device's properties");
    if (properties.major < 8)
        return fmt::format("the {} has compute capability {}.{}; the kernels need 8.0 (Ampere) or later",
                           properties.name, properties.major, properties.minor);
    if (!runs_on(BALLAST_CUDA_ARCHITECTURES, properties.major, properties.minor))
        return fmt::format("the {} has compute capability {}.{}, and this program was built for {}; build it with "
                           "-DCMAKE_CUDA_ARCHITECTURES={}{}, or use --backend cpu",
                           properties.name, properties.major, properties.minor, BALLAST_CUDA_ARCHITECTURES,
                           properties.major, properties.minor);
    return "";
}

std::string description() {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, used_device), "reading the device's properties");
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return fmt::format("{}, {:.0f} GiB, compute capability {}.{}, driver for CUDA {}.{}, runtime {}.{}",
                       properties.name, gibibytes(properties.totalGlobalMem), properties.major, properties.minor,
                       driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
}

std::unique_ptr<GpuState> make_state(bool products) { return std::make_unique<CudaState>(products); }

void* allocate(size_t bytes) {
    enter_device();
    void* memory = nullptr;
    if (const cudaError_t error = cudaMalloc(&memory, bytes); error != cudaSuccess) {
        if (error != cudaErrorMemoryAllocation) simt::throw_cuda_error(error, "allocating memory");
        throw UserError(
            fmt::format("cannot allocate {:.2f} GiB of GPU memory, {:.2f} GiB are free; lower the batch size, the "
                        "sequence length or the model",
                        gibibytes(bytes), gibibytes(device_memory().available)));
    }
    check(cudaMemset(memory, 0, bytes), "clearing memory");
    synchronise();  // contexts' streams do not wait for the default one
    return memory;
}

void release(void* memory) noexcept { cudaFree(memory); }

void copy_to_host(void* host, const void* device, size_t bytes, GpuStream stream) {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copying to the host");
    check(cudaStreamSynchronize(stream), "the work before a copy");
}

void copy_from_host(void* device, const void* host, size_t bytes, GpuStream stream) {
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "copying to the device");
    check(cudaStreamSynchronize(stream), "the work before a copy");
}

void* allocate_host(size_t bytes) {
    enter_device();
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "allocating page-locked memory");
    std::memset(memory, 0, bytes);
    return memory;
}

void release_host(void* memory) noexcept { cudaFreeHost(memory); }

void queue_copy(void* to, const void* from, size_t bytes, GpuStream stream) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "queueing a copy");
}

void synchronise(GpuStream stream) { check(cudaStreamSynchronize(stream), "the queued work"); }

std::unique_ptr<Graph> record(GpuStream stream, const std::function<void()>& work) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "starting a graph");
    cudaGraph_t graph = nullptr;
    try {
        work();
    } catch (...) {
        cudaStreamEndCapture(stream, &graph);
        if (graph != nullptr) cudaGraphDestroy(graph);
        throw;
    }
    check(cudaStreamEndCapture(stream, &graph), "ending a graph");
    return std::make_unique<CudaGraph>(graph);
}

void push_range(const char* name) { nvtxRangePushA(name); }
void pop_range() { nvtxRangePop(); }

void copy_on_device(void* to, const void* from, size_t bytes, GpuStream stream) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copying on the device");
}

DeviceMemory device_memory() {
    enter_device();
    DeviceMemory memory;
    check(cudaMemGetInfo(&memory.available, &memory.total), "asking for free memory");
    return memory;
}

std::unique_ptr<Stopwatch> make_stopwatch() { return std::make_unique<EventStopwatch>(); }

void synchronise() {
    enter_device();
    check(cudaDeviceSynchronize(), "the work before a wait");
}

bool is_reachable(const void*) { return true; }

void zero(void* device, size_t bytes, GpuStream stream) {
    check(cudaMemsetAsync(device, 0, bytes, stream), "clearing memory");
}

}  // namespace ballast::cuda

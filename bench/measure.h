// Shared by the benchmarks: tensors of random values on the device, and timing of work on it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/context.h"
#include "kernels/cuda/runtime.h"

namespace ballast::bench {

/// Tensors that live as long as this object. Values are uniform in ±spread/2, and the same in every run.
class Tensors {
  public:
    explicit Tensors(Context& context) : context_(context) {}
    Tensor make(Dtype dtype, std::initializer_list<int64_t> shape, double spread = 1.0);
    /// i32 values in [0, limit).
    Tensor indices(std::initializer_list<int64_t> shape, int32_t limit);
    Tensor zeros(Dtype dtype, std::initializer_list<int64_t> shape);

  private:
    Context& context_;
    std::vector<DeviceBuffer> buffers_;
};

/// Ids in [0, vocabulary), the same in every run.
std::vector<int32_t> random_tokens(size_t count, int64_t vocabulary);

struct Timing {
    double median = 0, least = 0;  ///< seconds
    int runs = 0;
};

/// Times work on a context's device: by events on CUDA, by a clock elsewhere. On a GPU the level-2 cache is emptied
/// before every run; this also gives the host time to queue the run's kernels.
class Timer {
  public:
    /// Repeats runs for about `seconds`, at least three times unless a single run takes that long.
    Timer(Context& context, double seconds);
    Timing operator()(const std::function<void()>& run);

  private:
    double once(const std::function<void()>& run);

    Context& context_;
    double seconds_;
    DeviceBuffer flush_;
    std::unique_ptr<cuda::Stopwatch> stopwatch_;
};

// The limits to which all figures are compared, measured in the same run. With `smoke` the buffers are tiny, and the
// figures mean nothing.

/// The rate of memory by the number of bytes: on a CPU, few bytes stay in a cache.
class MemoryLimit {
  public:
    MemoryLimit(Context& context, bool smoke) : context_(context), smoke_(smoke) {}
    /// Bytes read plus bytes written per second, for large buffers.
    double bytes_per_second() { return bytes_per_second(1e12); }
    /// The same when `bytes` are moved: the better of copying half of them and, on a CPU, of changing half of them in
    /// place.
    double bytes_per_second(double bytes);

  private:
    double measure(int64_t floats) const;

    Context& context_;
    bool smoke_;
    std::map<int64_t, double> measured_;
};

/// The rate at which all threads read memory that is in no cache, in bytes per second; on a GPU the rate of copying.
double read_limit(Context& context, bool smoke);

/// Operations a second of a large square product in `dtype`.
double gemm_limit(Context& context, Dtype dtype, bool smoke);

/// NVIDIA's figure for dense bf16 and fp16 products of an H100 or H200 SXM: the peak for MFU.
inline constexpr double kHopperPeak = 989e12;

/// The peak memory of this process as reported by the system; 0 when it is not reported.
size_t peak_host_bytes();

/// "NVIDIA H100 80GB HBM3, 79 GiB, …" or "cpu".
std::string device_description(const Context& context);

}  // namespace ballast::bench

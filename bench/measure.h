// What the benchmarks share: tensors of random values on the device, and its time for a piece of work.
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

/// Tensors that live as long as this does. Values are uniform in ±spread/2, the same in every run.
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

/// Times work on a context's device: events on CUDA, a clock elsewhere. On a GPU its level-2 cache is emptied before
/// every run, which also gives the host time to queue the run's kernels.
class Timer {
  public:
    /// Runs go on for about `seconds`, at least three unless one takes as long.
    Timer(Context& context, double seconds);
    Timing operator()(const std::function<void()>& run);

  private:
    double once(const std::function<void()>& run);

    Context& context_;
    double seconds_;
    DeviceBuffer flush_;
    std::unique_ptr<cuda::Stopwatch> stopwatch_;
};

// What everything else is held against, measured in the same run. With `smoke` on tiny buffers: the figures then mean
// nothing.

/// How fast memory can be read and written, by the number of bytes: on a CPU few of them stay in a cache.
class MemoryLimit {
  public:
    MemoryLimit(Context& context, bool smoke) : context_(context), smoke_(smoke) {}
    /// Bytes read plus bytes written a second, of large buffers.
    double bytes_per_second() { return bytes_per_second(1e12); }
    /// The same where `bytes` are moved: the better of copying half of them and, on a CPU, of changing half of them in
    /// place.
    double bytes_per_second(double bytes);

  private:
    double measure(int64_t floats) const;

    Context& context_;
    bool smoke_;
    std::map<int64_t, double> measured_;
};

/// How fast all threads read memory that no cache holds, in bytes a second; on a GPU the rate of copying.
double read_limit(Context& context, bool smoke);

/// Operations a second of a large square product in `dtype`.
double gemm_limit(Context& context, Dtype dtype, bool smoke);

/// NVIDIA's figure for dense bf16 and fp16 products of an H100 or H200 SXM, what MFU is a share of.
inline constexpr double kHopperPeak = 989e12;

/// The most memory this process has had, from the system; 0 where it does not say.
size_t peak_host_bytes();

/// "NVIDIA H100 80GB HBM3, 79 GiB, …" or "cpu".
std::string device_description(const Context& context);

}  // namespace ballast::bench

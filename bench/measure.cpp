#include "bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kernels/backend.h"
#include "kernels/ops.h"

namespace ballast::bench {
namespace {

constexpr int64_t kPattern = 1 << 20;  // as many random values, then they repeat

size_t bytes_of(Dtype dtype, std::initializer_list<int64_t> shape) {
    size_t bytes = size_of(dtype);
    for (const int64_t extent : shape) bytes *= static_cast<size_t>(extent);
    return bytes;
}

/// A generator of 32 random bits.
struct Random {
    uint64_t state = 1;
    uint32_t next() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<uint32_t>(state >> 32);
    }
    double uniform() { return next() * 0x1p-32; }
};

template <class T, class Value>
void fill(std::vector<char>& bytes, const Value& value) {
    const size_t count = bytes.size() / sizeof(T), fresh = std::min<size_t>(count, kPattern);
    for (size_t i = 0; i < fresh; ++i) {
        const T x(value());
        std::memcpy(&bytes[i * sizeof(T)], static_cast<const void*>(&x), sizeof x);
    }
    for (size_t i = fresh; i < count; i += fresh)
        std::memcpy(&bytes[i * sizeof(T)], bytes.data(), std::min(fresh, count - i) * sizeof(T));
}

}  // namespace

Tensor Tensors::zeros(Dtype dtype, std::initializer_list<int64_t> shape) {
    buffers_.push_back(context_.allocate(bytes_of(dtype, shape)));
    return Tensor(buffers_.back().data(), dtype, shape);
}

Tensor Tensors::make(Dtype dtype, std::initializer_list<int64_t> shape, double spread) {
    const Tensor tensor = zeros(dtype, shape);
    std::vector<char> bytes(tensor.bytes());
    Random random;
    const auto value = [&] { return static_cast<float>(spread * (random.uniform() - 0.5)); };
    switch (dtype) {
        case Dtype::f32: fill<float>(bytes, value); break;
        case Dtype::bf16: fill<bf16>(bytes, value); break;
        case Dtype::f64: fill<double>(bytes, value); break;
        default: require(false, "random values are floats");
    }
    context_.copy_from_host(tensor, bytes.data());
    return tensor;
}

Tensor Tensors::indices(std::initializer_list<int64_t> shape, int32_t limit) {
    const Tensor tensor = zeros(Dtype::i32, shape);
    std::vector<char> bytes(tensor.bytes());
    Random random;
    fill<int32_t>(bytes, [&] { return static_cast<int32_t>(random.next() % static_cast<uint32_t>(limit)); });
    context_.copy_from_host(tensor, bytes.data());
    return tensor;
}

std::vector<int32_t> random_tokens(size_t count, int64_t vocabulary) {
    std::vector<int32_t> tokens(count);
    uint64_t state = 1;
    for (int32_t& id : tokens) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        id = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocabulary));
    }
    return tokens;
}

Timer::Timer(Context& context, double seconds) : context_(context), seconds_(seconds) {
    if (context.device() == Device::cpu) return;
    stopwatch_ = cuda::make_stopwatch();
    if (context.device() == Device::cuda)
        flush_ = context.allocate(size_t{256} << 20);  // several times any level-2 cache
}

double Timer::once(const std::function<void()>& run) {
    if (!stopwatch_) {
        const auto begin = std::chrono::steady_clock::now();
        run();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    if (flush_.bytes() > 0) cuda::zero(flush_.data(), flush_.bytes(), context_.stream());
    stopwatch_->start(context_.stream());
    run();
    return stopwatch_->stop(context_.stream());
}

Timing Timer::operator()(const std::function<void()>& run) {
    const double warm_up = once(run);
    std::vector<double> times;
    if (warm_up > seconds_) times.push_back(once(run));
    for (double spent = warm_up;
         times.empty() || (spent < seconds_ && times.size() < 200) || (times.size() < 3 && warm_up <= seconds_);)
        spent += times.emplace_back(once(run));
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), static_cast<int>(times.size())};
}

double MemoryLimit::bytes_per_second(double bytes) {
    const bool gpu = context_.device() == Device::cuda;
    const int64_t least = smoke_ ? 1 << 8
                          : gpu  ? int64_t{1} << 28
                                 : 1 << 12;  // floats; a GPU's caches are emptied: 1 GiB
    const int64_t most = smoke_ ? 1 << 8 : gpu ? int64_t{1} << 28 : 1 << 25;
    int64_t floats = least;
    while (floats < most && static_cast<double>(2 * floats) * sizeof(float) < bytes) floats *= 2;
    double& rate = measured_[floats];
    if (rate == 0) rate = measure(floats);
    return rate;
}

double MemoryLimit::measure(int64_t floats) const {
    Timer timer(context_, smoke_ ? 0.0 : 0.2);
    Tensors tensors(context_);
    const Tensor from = tensors.make(Dtype::f32, {floats}), to = tensors.zeros(Dtype::f32, {floats});
    const bool cpu = context_.device() == Device::cpu;
    double seconds = timer([&] {
                         if (cpu)
                             ops::copy(context_, to, from);
                         else
                             cuda::copy_on_device(to.data, from.data, from.bytes(), context_.stream());
                     }).median;
    if (cpu) {
        constexpr int64_t kBlock = 1 << 14;
        float* x = to.ptr<float>();
        const auto change = [&](int64_t block) {
            const int64_t end = std::min(floats, (block + 1) * kBlock);
            for (int64_t i = block * kBlock; i < end; ++i) x[i] *= 1.0001f;
        };
        const int64_t blocks = (floats + kBlock - 1) / kBlock;
        seconds = std::min(seconds, timer([&] { context_.pool().parallel_for(blocks, change); }).median);
    }
    return 2 * static_cast<double>(from.bytes()) / seconds;
}

double read_limit(Context& context, bool smoke) {
    if (context.device() != Device::cpu) return MemoryLimit(context, smoke).bytes_per_second();
    constexpr size_t kBlock = 1 << 13;
    const size_t blocks = smoke ? 1 : size_t{1} << 13;  // 512 MiB
    const std::vector<uint64_t> memory(blocks * kBlock, 1);
    std::vector<uint64_t> sums(blocks);
    const Timing time = Timer(context, smoke ? 0.0 : 1.0)([&] {
        context.pool().parallel_for(static_cast<int64_t>(blocks), [&](int64_t block) {
            const uint64_t* x = memory.data() + static_cast<size_t>(block) * kBlock;
            uint64_t sum = 0;
            for (size_t i = 0; i < kBlock; ++i) sum += x[i];
            sums[static_cast<size_t>(block)] = sum;
        });
    });
    for (const uint64_t sum : sums) require(sum == kBlock, "memory was read wrongly");
    return static_cast<double>(memory.size() * sizeof(uint64_t)) / time.least;
}

double gemm_limit(Context& context, Dtype dtype, bool smoke) {
    Timer timer(context, smoke ? 0.0 : 0.5);
    Tensors tensors(context);
    const int64_t n = smoke ? 32 : context.device() == Device::cuda ? 8192 : 1536;
    const Tensor x = tensors.make(dtype, {n, n}), w = tensors.make(dtype, {n, n}), out = tensors.zeros(dtype, {n, n});
    const Timing time = timer([&] { ops::linear_forward(context, out, x, {w, {}}); });
    return 2.0 * static_cast<double>(n * n * n) / time.median;
}

size_t peak_host_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) << 10;
    return 0;
}

std::string device_description(const Context& context) {
    for (const BackendInfo& backend : backends())
        if (backend.name == name_of(context.device())) return backend.name + ": " + backend.details;
    return std::string(name_of(context.device()));
}

}  // namespace ballast::bench

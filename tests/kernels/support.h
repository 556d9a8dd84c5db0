// What the kernel tests share: tensors between sentinels, seeded numbers, norms, finite differences.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "base/philox.h"
#include "kernels/ops.h"
#include "tests/catch.h"
#include "tests/kernels/test_device.h"

namespace ballast::test {

using Values = std::vector<double>;

inline constexpr uint64_t kSeed = 20261123;

/// Standard normal numbers times `scale`, the same in every run.
inline Values normal(int64_t count, std::string_view name, double scale = 1.0) {
    const Philox generator(kSeed, name);
    Values values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = scale * generator.normal(i);
    return values;
}

/// Uniform integers in [0, limit).
inline std::vector<int32_t> integers(int64_t count, int32_t limit, std::string_view name) {
    const Philox generator(kSeed, name);
    std::vector<int32_t> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int32_t>(generator.uniform(i) * limit);
    return values;
}

/// Memory of a tensor on the test device, contiguous, between two sentinels that the destructor checks. Contents start as
/// NaN (or as an impossible integer), so an output that is read or left out shows.
class TestTensor {
  public:
    TestTensor(Dtype dtype, std::vector<int64_t> shape)
        : numel_(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>())),
          memory_(test_device(), kGuard + static_cast<size_t>(numel_) * size_of(dtype) + kGuard) {
        tensor_.data = static_cast<char*>(memory_.data()) + kGuard;
        tensor_.dtype = dtype;
        tensor_.rank = static_cast<int>(shape.size());
        int64_t step = 1;
        for (size_t d = shape.size(); d-- > 0;) {
            tensor_.shape[d] = shape[d];
            tensor_.stride[d] = step;
            step *= shape[d];
        }
        const std::vector<unsigned char> sentinels(memory_.bytes(), kSentinel);
        write_device(memory_.data(), sentinels.data(), sentinels.size());
        poison();
    }
    TestTensor(Dtype dtype, std::vector<int64_t> shape, const Values& values) : TestTensor(dtype, std::move(shape)) {
        set(values);
    }
    TestTensor(std::vector<int64_t> shape, const std::vector<int32_t>& values)
        : TestTensor(Dtype::i32, std::move(shape)) {
        write_device(tensor_.data, values.data(), values.size() * sizeof(int32_t));
    }
    TestTensor(const TestTensor&) = delete;
    TestTensor& operator=(const TestTensor&) = delete;
    ~TestTensor() { CHECK(intact()); }

    operator const Tensor&() const { return tensor_; }
    const Tensor& tensor() const { return tensor_; }

    /// Stores `values`, rounded to the dtype.
    void set(const Values& values) {
        REQUIRE(static_cast<int64_t>(values.size()) == numel_);
        std::string stored(values.size() * size(), 0);
        for (size_t i = 0; i < values.size(); ++i) encode(&stored[i * size()], values[i]);
        write_device(tensor_.data, stored.data(), stored.size());
    }
    Values get() const {
        const std::string stored = bytes();
        Values values(static_cast<size_t>(numel_));
        for (size_t i = 0; i < values.size(); ++i) values[i] = decode(&stored[i * size()]);
        return values;
    }
    /// One element; get() is for many.
    double at(int64_t i) const {
        char stored[sizeof(double)];
        read_device(stored, place(i), size());
        return decode(stored);
    }
    void put(int64_t i, double value) {
        char stored[sizeof(double)];
        encode(stored, value);
        write_device(place(i), stored, size());
    }
    void poison() {
        if (tensor_.dtype == Dtype::i32 || tensor_.dtype == Dtype::i8 || tensor_.dtype == Dtype::u8) {
            const std::string impossible(static_cast<size_t>(numel_) * size(), 0x7f);
            write_device(tensor_.data, impossible.data(), impossible.size());
        } else {
            set(Values(static_cast<size_t>(numel_), std::numeric_limits<double>::quiet_NaN()));
        }
    }
    std::string bytes() const {
        std::string stored(static_cast<size_t>(numel_) * size(), 0);
        read_device(stored.data(), tensor_.data, stored.size());
        return stored;
    }

  private:
    static constexpr size_t kGuard = 64;
    static constexpr unsigned char kSentinel = 0xA5;

    size_t size() const { return size_of(tensor_.dtype); }
    char* place(int64_t i) const { return static_cast<char*>(tensor_.data) + static_cast<size_t>(i) * size(); }
    template <class T>
    static double as(const char* from) {
        T value;
        std::memcpy(static_cast<void*>(&value), from, sizeof value);
        if constexpr (sizeof(T) == 2)  // bf16, f16
            return static_cast<float>(value);
        else
            return value;
    }
    double decode(const char* from) const {
        switch (tensor_.dtype) {
            case Dtype::f32: return as<float>(from);
            case Dtype::bf16: return as<bf16>(from);
            case Dtype::f16: return as<f16>(from);
            case Dtype::i32: return as<int32_t>(from);
            case Dtype::i8: return as<int8_t>(from);
            default: return as<double>(from);
        }
    }
    template <class T>
    static void store(char* to, T value) {
        std::memcpy(to, static_cast<const void*>(&value), sizeof value);
    }
    void encode(char* to, double value) const {
        switch (tensor_.dtype) {
            case Dtype::f32: return store(to, static_cast<float>(value));
            case Dtype::bf16: return store(to, bf16(static_cast<float>(value)));
            case Dtype::f16: return store(to, f16(static_cast<float>(value)));
            case Dtype::i32: return store(to, static_cast<int32_t>(value));
            case Dtype::i8: return store(to, static_cast<int8_t>(value));
            default: return store(to, value);
        }
    }
    bool intact() const {
        std::vector<unsigned char> all(memory_.bytes());
        read_device(all.data(), memory_.data(), all.size());
        for (size_t i = 0; i < kGuard; ++i)
            if (all[i] != kSentinel || all[all.size() - 1 - i] != kSentinel) return false;
        return true;
    }

    int64_t numel_;
    DeviceBuffer memory_;
    Tensor tensor_;
};

inline double norm(const Values& x) {
    double sum = 0;
    for (double v : x) sum += v * v;
    return std::sqrt(sum);
}

/// ‖x - reference‖ / ‖reference‖ (or ‖x‖ where the reference is all zero); NaN when any element is.
inline double error(const Values& x, const Values& reference) {
    if (x.size() != reference.size()) return std::numeric_limits<double>::quiet_NaN();
    Values difference(x.size());
    for (size_t i = 0; i < x.size(); ++i) difference[i] = x[i] - reference[i];
    const double scale = norm(reference);
    return norm(difference) / (scale > 0 ? scale : 1);
}

inline double rounded(Dtype dtype, double x) {
    if (dtype == Dtype::f64) return x;
    const float single = static_cast<float>(x);
    if (dtype == Dtype::bf16) return static_cast<float>(bf16(single));
    return dtype == Dtype::f16 ? static_cast<float>(f16(single)) : single;
}
inline Values rounded(Dtype dtype, Values x) {
    for (double& v : x) v = rounded(dtype, v);
    return x;
}

/// What an output of `dtype` may differ from the oracle by. bf16 and fp16: twice the error of rounding the oracle
/// itself.
inline double tolerance(Dtype dtype, const Values& reference, double f32 = 2e-6, double f64 = 1e-12) {
    if (dtype == Dtype::f64) return f64;
    if (dtype == Dtype::f32) return f32;
    return 2 * error(rounded(dtype, reference), reference) + 1e-12;
}

inline void check_error(const char* name, const TestTensor& x, const Values& reference, double tol) {
    const double err = error(x.get(), reference);
    INFO(name << " " << x.tensor().describe() << ": error " << err << ", tolerance " << tol << ", seed " << kSeed);
    if (!(err <= tol)) FAIL();
}

/// Checks an output against the oracle's values, to the tolerance of its dtype.
inline void check_close(const char* name, const TestTensor& x, const Values& reference, double f32 = 2e-6, double f64 = 1e-12) {
    check_error(name, x, reference, tolerance(x.tensor().dtype, reference, f32, f64));
}

/// Central differences of `loss` with respect to every element of x (f64) against the analytic gradient.
inline void check_gradient(const char* name, TestTensor& x, const Values& gradient, const std::function<double()>& loss,
                           double tol = 1e-7) {
    constexpr double kStep = 1e-5;
    Values numeric(gradient.size());
    for (size_t i = 0; i < numeric.size(); ++i) {
        const int64_t at = static_cast<int64_t>(i);
        const double value = x.at(at);
        x.put(at, value + kStep);
        const double up = loss();
        x.put(at, value - kStep);
        const double down = loss();
        x.put(at, value);
        numeric[i] = (up - down) / (2 * kStep);
    }
    const double err = error(gradient, numeric);
    INFO("finite differences of " << name << ": error " << err << ", |gradient| " << norm(numeric) << ", seed " << kSeed);
    if (!(err <= tol)) FAIL();
}

inline double dot(const Values& a, const Values& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

/// Runs `outputs(context)` with several thread counts; the bytes it returns must never differ. A GPU's kernels do not
/// use the threads: there it is run twice.
inline void check_thread_counts(const std::function<std::string(Context&)>& outputs) {
    Context one(test_device(), 1);
    const std::string expected = outputs(one);
    for (int threads : {2, 3, 5}) {
        if (threads > 2 && test_device() != Device::cpu) break;
        Context context(test_device(), threads);
        INFO(threads << " threads");
        CHECK(outputs(context) == expected);
    }
}

}  // namespace ballast::test

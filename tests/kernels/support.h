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

/// Memory of a tensor, contiguous, between two sentinels that the destructor checks. Contents start as NaN (or as an
/// impossible integer), so an output that is read or left out shows.
class TestTensor {
  public:
    TestTensor(Dtype dtype, std::vector<int64_t> shape)
        : numel_(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>())),
          memory_(kGuard + static_cast<size_t>(numel_) * size_of(dtype) + kGuard, kSentinel) {
        tensor_.data = memory_.data() + kGuard;
        tensor_.dtype = dtype;
        tensor_.rank = static_cast<int>(shape.size());
        int64_t step = 1;
        for (size_t d = shape.size(); d-- > 0;) {
            tensor_.shape[d] = shape[d];
            tensor_.stride[d] = step;
            step *= shape[d];
        }
        poison();
    }
    TestTensor(Dtype dtype, std::vector<int64_t> shape, const Values& values) : TestTensor(dtype, std::move(shape)) {
        set(values);
    }
    TestTensor(std::vector<int64_t> shape, const std::vector<int32_t>& values) : TestTensor(Dtype::i32, std::move(shape)) {
        std::memcpy(tensor_.data, values.data(), values.size() * sizeof(int32_t));
    }
    TestTensor(const TestTensor&) = delete;
    TestTensor& operator=(const TestTensor&) = delete;
    ~TestTensor() { CHECK(intact()); }

    operator const Tensor&() const { return tensor_; }
    const Tensor& tensor() const { return tensor_; }

    /// Stores `values`, rounded to the dtype.
    void set(const Values& values) {
        REQUIRE(static_cast<int64_t>(values.size()) == numel_);
        for (int64_t i = 0; i < numel_; ++i) put(i, values[static_cast<size_t>(i)]);
    }
    Values get() const {
        Values values(static_cast<size_t>(numel_));
        for (int64_t i = 0; i < numel_; ++i) values[static_cast<size_t>(i)] = at(i);
        return values;
    }
    double at(int64_t i) const {
        switch (tensor_.dtype) {
            case Dtype::f32: return static_cast<const float*>(tensor_.data)[i];
            case Dtype::bf16: return static_cast<float>(static_cast<const bf16*>(tensor_.data)[i]);
            case Dtype::f16: return static_cast<float>(static_cast<const f16*>(tensor_.data)[i]);
            case Dtype::i32: return static_cast<const int32_t*>(tensor_.data)[i];
            default: return static_cast<const double*>(tensor_.data)[i];
        }
    }
    void put(int64_t i, double value) {
        switch (tensor_.dtype) {
            case Dtype::f32: static_cast<float*>(tensor_.data)[i] = static_cast<float>(value); break;
            case Dtype::bf16: static_cast<bf16*>(tensor_.data)[i] = bf16(static_cast<float>(value)); break;
            case Dtype::f16: static_cast<f16*>(tensor_.data)[i] = f16(static_cast<float>(value)); break;
            case Dtype::i32: static_cast<int32_t*>(tensor_.data)[i] = static_cast<int32_t>(value); break;
            default: static_cast<double*>(tensor_.data)[i] = value;
        }
    }
    void poison() {
        const bool integer = tensor_.dtype == Dtype::i32 || tensor_.dtype == Dtype::u8;
        if (integer)
            std::memset(tensor_.data, 0x7f, static_cast<size_t>(numel_) * size_of(tensor_.dtype));
        else
            for (int64_t i = 0; i < numel_; ++i) put(i, std::numeric_limits<double>::quiet_NaN());
    }
    std::string bytes() const {
        return {static_cast<const char*>(tensor_.data), static_cast<size_t>(numel_) * size_of(tensor_.dtype)};
    }

  private:
    static constexpr size_t kGuard = 64;
    static constexpr unsigned char kSentinel = 0xA5;

    bool intact() const {
        for (size_t i = 0; i < kGuard; ++i)
            if (memory_[i] != kSentinel || memory_[memory_.size() - 1 - i] != kSentinel) return false;
        return true;
    }

    int64_t numel_;
    std::vector<unsigned char> memory_;
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

/// Runs `outputs(context)` with several thread counts; the bytes it returns must never differ.
inline void check_thread_counts(const std::function<std::string(Context&)>& outputs) {
    Context one(test_device(), 1);
    const std::string expected = outputs(one);
    for (int threads : {2, 3, 5}) {
        Context context(test_device(), threads);
        INFO(threads << " threads");
        CHECK(outputs(context) == expected);
    }
}

/// Those the tests' device has kernels for: fp16 is for GPUs.
inline const std::vector<Dtype> kComputeDtypes = [] {
    std::vector<Dtype> dtypes{Dtype::f32, Dtype::bf16, Dtype::f64};
    if (test_device() != Device::cpu) dtypes.push_back(Dtype::f16);
    return dtypes;
}();

}  // namespace ballast::test

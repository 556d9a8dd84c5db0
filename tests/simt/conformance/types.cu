// Conversions and arithmetic of the 16-bit types, to the bit; functions the hardware approximates, to their documented
// error (CUDA C++ Programming Guide, "Mathematical Functions") and one unit for the host's own.
#include <cmath>

#include "base/philox.h"
#include "kernels/simt/buffer.h"
#include "kernels/simt/ptx.cuh"
#include "tests/simt/conformance/conformance.h"

namespace ballast::test {
namespace {

using namespace ballast::simt;

constexpr int kThreads = 128;

template <class T>
struct Names;
template <>
struct Names<__nv_bfloat16> {
    static constexpr const char* kName = "bf16";
    __device__ static __nv_bfloat16 from(uint16_t bits) { return __ushort_as_bfloat16(bits); }
    __device__ static uint16_t bits(__nv_bfloat16 x) { return __bfloat16_as_ushort(x); }
    __device__ static float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
    __device__ static __nv_bfloat16 from_float(float x) { return __float2bfloat16_rn(x); }
};
template <>
struct Names<__half> {
    static constexpr const char* kName = "fp16";
    __device__ static __half from(uint16_t bits) { return __ushort_as_half(bits); }
    __device__ static uint16_t bits(__half x) { return __half_as_ushort(x); }
    __device__ static float to_float(__half x) { return __half2float(x); }
    __device__ static __half from_float(float x) { return __float2half_rn(x); }
};

/// Every 16-bit pattern to float.
template <class T>
__global__ void widen_all(float* out) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = Names<T>::to_float(Names<T>::from(static_cast<uint16_t>(i)));
}

template <class T>
__global__ void narrow_all(uint16_t* out, uint32_t* pairs, const float* x) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = Names<T>::bits(Names<T>::from_float(x[i]));
    pairs[i] = ptx::pack<T>(x[i], x[i ^ 1]);
}

struct Arithmetic {
    uint16_t sum, difference, product, fma, maximum, minimum, negated, absolute;
    uint32_t comparisons;
};
template <class T>
__global__ void arithmetic(Arithmetic* out, const uint16_t* a_bits, const uint16_t* b_bits) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const T a = Names<T>::from(a_bits[i]), b = Names<T>::from(b_bits[i]);
    const auto bits = [](T x) { return Names<T>::bits(x); };
    out[i] = {bits(__hadd(a, b)),
              bits(__hsub(a, b)),
              bits(__hmul(a, b)),
              bits(__hfma(a, b, b)),
              bits(__hmax(a, b)),
              bits(__hmin(a, b)),
              bits(__hneg(a)),
              bits(__habs(a)),
              static_cast<uint32_t>(__heq(a, b)) | static_cast<uint32_t>(__hlt(a, b)) << 1 |
                  static_cast<uint32_t>(__hle(a, b)) << 2 | static_cast<uint32_t>(__hgt(a, b)) << 3};
}

constexpr int kFunctions = 12;
__global__ void functions(float* out, const float* x, unsigned count) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const float v = x[i], positive = fabsf(v) + 2;
    const float results[kFunctions] = {__expf(v),
                                       expf(v),
                                       exp2f(v),
                                       __logf(positive),
                                       logf(positive),
                                       __log2f(positive),
                                       rsqrtf(positive),
                                       __frcp_rn(positive),
                                       __fdividef(v, positive),
                                       sqrtf(positive),
                                       tanhf(v),
                                       erfcf(v / 4)};
    for (int f = 0; f < kFunctions; ++f) out[f * count + i] = results[f];
}
struct Function {
    const char* name;
    double bound;
};
/// Of arguments in [-20, 20], or their absolute value plus 2.
constexpr Function kFunctionBounds[kFunctions] = {{"__expf", 26},    {"expf", 3},    {"exp2f", 3},  {"__logf", 5},
                                                  {"logf", 2},       {"__log2f", 4}, {"rsqrtf", 3}, {"__frcp_rn", 0},
                                                  {"__fdividef", 3}, {"sqrtf", 0},   {"tanhf", 3},  {"erfcf", 6}};

/// Random floats of every exponent, and those that are special.
std::vector<float> floats(size_t count) {
    const Philox random(23, "floats");
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) {
        const uint32_t bits = random.block(i)[0];
        std::memcpy(&values[i], &bits, sizeof bits);
    }
    constexpr uint32_t kSpecial[] = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f7fffff, 0x00800000,
                                     0x007fffff, 1,          0x3f808000, 0x3f818000, 0x477fe000, 0x477fefff, 0x477ff000,
                                     0x33000000, 0x33000001, 0x387fc000, 0x38800000, 0x7f7f8000, 0x7f7f7fff};
    std::memcpy(values.data(), kSpecial, sizeof kSpecial);
    return values;
}

/// NaN results keep no promise about their bits.
void canonical_nans(std::vector<float>& values) {
    for (float& v : values)
        if (std::isnan(v)) v = NAN;
}

template <class T>
std::vector<float> widened() {
    Buffer<float> wide(1 << 16);
    launch(widen_all<T>, (1 << 16) / kThreads, kThreads, {}, nullptr, wide.data());
    auto values = wide.values();
    canonical_nans(values);
    return values;
}

struct Narrowed {
    std::vector<uint16_t> values;
    std::vector<uint32_t> pairs;
};
template <class T>
Narrowed narrowed() {
    const auto values = floats(4096);
    const Buffer<float> x(values);
    Buffer<uint16_t> narrow(values.size());
    Buffer<uint32_t> pairs(values.size());
    launch(narrow_all<T>, static_cast<unsigned>(values.size()) / kThreads, kThreads, {}, nullptr, narrow.data(),
           pairs.data(), x.data());
    return {narrow.values(), pairs.values()};
}

template <class T>
std::vector<Arithmetic> arithmetic_results() {
    const Philox random(29, Names<T>::kName);
    std::vector<uint16_t> a(4096), b(4096);
    for (size_t i = 0; i < a.size(); ++i) {  // finite: about NaN, and what max makes of it, types_test.cpp
        a[i] = static_cast<uint16_t>(random.block(i)[0] & 0xbbff);
        b[i] = static_cast<uint16_t>(random.block(i)[1] & 0xbbff);
    }
    const Buffer<uint16_t> da(a), db(b);
    Buffer<Arithmetic> results(a.size());
    launch(arithmetic<T>, static_cast<unsigned>(a.size()) / kThreads, kThreads, {}, nullptr, results.data(), da.data(),
           db.data());
    return results.values();
}

template <class T>
void record_type(Recorder& recorder) {
    const std::string type = Names<T>::kName;
    recorder.exact(type + ": every value to f32", widened<T>);
    recorder.exact(type + ": f32 rounded", [] { return narrowed<T>().values; });
    recorder.exact(type + ": pairs packed", [] { return narrowed<T>().pairs; });
    recorder.exact(type + ": + - * fma max min neg abs and comparisons", arithmetic_results<T>);
}

/// Of 1024 arguments in [-20, 20].
std::vector<float> function_values(int function) {
    const Philox random(31, "functions");
    std::vector<float> x(1024);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(40 * random.uniform(i) - 20);
    const Buffer<float> arguments(x);
    Buffer<float> out(kFunctions * x.size());
    launch(functions, static_cast<unsigned>(x.size()) / kThreads, kThreads, {}, nullptr, out.data(), arguments.data(),
           static_cast<unsigned>(x.size()));
    const auto values = out.values();
    const auto first = values.begin() + function * static_cast<ptrdiff_t>(x.size());
    return {first, first + static_cast<ptrdiff_t>(x.size())};
}

}  // namespace

void record_types(Recorder& recorder) {
    record_type<__nv_bfloat16>(recorder);
    record_type<__half>(recorder);
}

void record_functions(Recorder& recorder) {
    for (int f = 0; f < kFunctions; ++f)
        recorder.ulp(kFunctionBounds[f].name, kFunctionBounds[f].bound, [f] { return function_values(f); });
}

}  // namespace ballast::test

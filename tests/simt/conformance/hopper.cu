// What sm_90a adds: mbarriers, TMA, wgmma, registers that change hands. Compiled for sm_90a alone.
#include <numeric>

#include "kernels/simt/buffer.h"
#include "tests/simt/conformance/conformance.h"
#include "tests/simt/operand_image.h"
#include "tests/simt/tensor_case.h"

namespace ballast::test {
namespace {

constexpr const char* kSwizzleNames[] = {"no swizzle", "32", "64", "128"};
std::string name_of(Swizzle swizzle) { return kSwizzleNames[static_cast<int>(swizzle)]; }

/// At all places.
template <class T, int Rank>
std::vector<char> loaded_tiles(TensorElement element, Swizzle swizzle) {
    TensorCase c = make_tensor_case(Rank, element, swizzle);
    const Buffer<T> tensor(random_values<T>(c.elements, "tensor"));
    c.layout.base = tensor.data();
    std::vector<char> images;
    for (const auto& at : places<Rank>(c.layout)) {
        const auto image = run_load<Rank>(c, at);
        images.insert(images.end(), image.begin(), image.end());
    }
    return images;
}

template <class T, int Rank, bool Add>
std::vector<T> stored_tensors(TensorElement element, Swizzle swizzle) {
    const TensorCase c = make_tensor_case(Rank, element, swizzle);
    const auto before = random_values<T>(c.elements, "tensor");
    const auto tile = random_values<T>(c.layout.box_bytes() / sizeof(T), "tile");
    std::vector<T> tensors;
    for (const auto& at : places<Rank>(c.layout)) {
        const auto tensor = run_store<T, Rank, Add>(c, at, before, tile, Add ? 3 : 1);
        tensors.insert(tensors.end(), tensor.begin(), tensor.end());
    }
    return tensors;
}

template <class T, int Rank>
std::string name_of_tiles(const char* what, Swizzle swizzle) {
    return std::string(what) + ", rank " + std::to_string(Rank) + ", " + std::to_string(sizeof(T)) + "-byte, " +
           name_of(swizzle);
}

template <class T, int Rank>
void record_loads(Recorder& recorder, TensorElement element) {
    for (const Swizzle swizzle : kSwizzles)
        recorder.exact(name_of_tiles<T, Rank>("load", swizzle),
                       [&] { return loaded_tiles<T, Rank>(element, swizzle); });
}

template <class T, int Rank, bool Add>
void record_stores(Recorder& recorder, TensorElement element) {
    for (const Swizzle swizzle : kSwizzles) {
        const std::string name = name_of_tiles<T, Rank>(Add ? "add" : "store", swizzle);
        const auto values = [&] { return stored_tensors<T, Rank, Add>(element, swizzle); };
        if constexpr (Add)
            recorder.relative(name, 1e-6, values);  // the order of the blocks is not given
        else
            recorder.exact(name, values);
    }
}

template <class T>
const char* name_of_type() {
    return std::is_same_v<T, __nv_bfloat16> ? "bf16" : "fp16";
}

/// Whether b's columns fill whole atoms of the layout. Where n is contiguous an atom is a span of n; what the hardware
/// makes of a part of one is not documented, CUTLASS refuses to build it, and no kernel here asks for it.
constexpr bool whole_atoms(int n, ptx::Major b, Swizzle swizzle) {
    return b == ptx::Major::k || n % static_cast<int>(swizzle_span(swizzle) / 2) == 0;
}

template <class T, int N, ptx::Major A, ptx::Major B, bool InRegisters>
void record_product(Recorder& recorder, bool every_swizzle) {
    const auto a = random_matrix<T>(kProductRows, kProductK, "a");
    const auto b = random_matrix<T>(kProductK, N, "b");
    const auto c = random_matrix<float>(kProductRows, N, "c");
    const auto major = [](ptx::Major m) { return m == ptx::Major::k ? std::string("k") : std::string("mn"); };
    for (const Swizzle a_swizzle : kSwizzles)
        for (const Swizzle b_swizzle : kSwizzles) {
            if (InRegisters && a_swizzle != Swizzle::none) continue;
            if (!every_swizzle && (b_swizzle != Swizzle::bytes_128 || (!InRegisters && a_swizzle != b_swizzle)))
                continue;
            if (!whole_atoms(N, B, b_swizzle)) continue;
            recorder.relative(std::string(name_of_type<T>()) + " n" + std::to_string(N) + ", A " +
                                  (InRegisters ? "in registers" : major(A) + "-major " + name_of(a_swizzle)) + ", B " +
                                  major(B) + "-major " + name_of(b_swizzle),
                              5e-6,
                              [&] { return run_product<T, N, A, B, InRegisters>(a, b, c, a_swizzle, b_swizzle); });
        }
}

template <class T, int N>
void record_products(Recorder& recorder, bool every_swizzle) {
    using enum ptx::Major;
    record_product<T, N, k, k, false>(recorder, every_swizzle);
    record_product<T, N, k, mn, false>(recorder, every_swizzle);
    record_product<T, N, mn, mn, false>(recorder, every_swizzle);
    record_product<T, N, mn, k, false>(recorder, every_swizzle);
    record_product<T, N, k, mn, true>(recorder, every_swizzle);
    record_product<T, N, k, k, true>(recorder, every_swizzle);
}

// The attention kernels' split: 168 registers a thread at the start, then 40 and twice 232, all of 64 Ki.
constexpr int kTradingThreads = 384, kHeld = 192;

/// One warpgroup gives registers back, the others take them and need them: every value is used twice, the second time
/// with a sum of all of them.
__global__ void __launch_bounds__(kTradingThreads, 1) trade_registers(unsigned* out, const unsigned* x) {
    const unsigned thread = threadIdx.x;
    if (ptx::warpgroup() == 0) {
        ptx::give_back_registers<40>();
        out[thread] = 3 * x[thread];
        return;
    }
    ptx::take_registers<232>();
    unsigned held[kHeld], sum = 0, mixed = 0;
    SIMT_UNROLL
    for (unsigned i = 0; i < kHeld; ++i) {
        held[i] = x[i * kTradingThreads + thread];
        sum = 31 * sum + held[i];
    }
    SIMT_UNROLL
    for (unsigned i = 0; i < kHeld; ++i) mixed = 33 * mixed + (held[i] ^ sum);
    out[thread] = mixed;
}

std::vector<unsigned> traded_registers() {
    std::vector<unsigned> values(size_t{kHeld} * kTradingThreads);
    std::iota(values.begin(), values.end(), 1u);
    const Buffer<unsigned> x(values);
    Buffer<unsigned> out(kTradingThreads);
    launch(trade_registers, 1, kTradingThreads, {}, nullptr, out.data(), x.data());
    return out.values();
}

}  // namespace

void record_tma_loads(Recorder& recorder) {
    record_loads<uint16_t, 2>(recorder, TensorElement::bf16);
    record_loads<uint16_t, 3>(recorder, TensorElement::fp16);
    record_loads<uint16_t, 4>(recorder, TensorElement::bf16);
    record_loads<uint16_t, 5>(recorder, TensorElement::bf16);
    record_loads<uint32_t, 2>(recorder, TensorElement::f32);
}

void record_tma_stores(Recorder& recorder) {
    record_stores<uint16_t, 2, false>(recorder, TensorElement::bf16);
    record_stores<uint16_t, 3, false>(recorder, TensorElement::bf16);
    record_stores<uint16_t, 4, false>(recorder, TensorElement::fp16);
    record_stores<float, 2, true>(recorder, TensorElement::f32);
    record_stores<float, 3, true>(recorder, TensorElement::f32);
    record_stores<float, 4, true>(recorder, TensorElement::f32);
}

void record_wgmma_swizzles(Recorder& recorder) { record_products<__nv_bfloat16, 64>(recorder, true); }

void record_wgmma_fp16(Recorder& recorder) { record_products<__half, 64>(recorder, false); }

void record_wgmma_columns(Recorder& recorder) {
    record_products<__nv_bfloat16, 8>(recorder, false);
    record_products<__nv_bfloat16, 96>(recorder, false);
    record_products<__nv_bfloat16, 128>(recorder, false);
    record_products<__nv_bfloat16, 256>(recorder, false);
}

void record_wgmma_chains(Recorder& recorder) {
    recorder.relative("accumulators as the next product's operand", 2e-3, [] {
        return run_chained_products(random_matrix<__nv_bfloat16>(64, 64, "a"),
                                    random_matrix<__nv_bfloat16>(64, 64, "b"));
    });
    recorder.relative("TMA, mbarriers, wgmma: a GEMM in three stages", 5e-6, [] {
        return run_gemm(random_matrix<__nv_bfloat16>(100, 456, "a"), random_matrix<__nv_bfloat16>(140, 456, "b"), 100,
                        140, 456);
    });
}

void record_setmaxnreg(Recorder& recorder) { recorder.exact("one warpgroup gives, two take", traded_registers); }

std::string why_not_hopper() {
#if BALLAST_SIMT_HOST
    return "";
#else
    int major = 0, minor = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) != cudaSuccess)
        return "no device";
    return major == 9 && minor == 0 ? "" : "compute capability " + std::to_string(major) + "." + std::to_string(minor);
#endif
}

}  // namespace ballast::test

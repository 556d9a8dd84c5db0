// What sm_90a adds: mbarriers, TMA, wgmma, registers that change hands. Compiled for sm_90a alone.
#include "kernels/simt/buffer.h"
#include "tests/simt/conformance/conformance.h"
#include "tests/simt/operand_image.h"
#include "tests/simt/tensor_case.h"

namespace ballast::test {
namespace {

constexpr const char* kSwizzleNames[] = {"no swizzle", "32", "64", "128"};
std::string name_of(Swizzle swizzle) { return kSwizzleNames[static_cast<int>(swizzle)]; }

/// One record for all places of a rank and swizzle.
template <class T, int Rank>
void record_loads(Records& records, TensorElement element) {
    for (const Swizzle swizzle : kSwizzles) {
        TensorCase c = make_tensor_case(Rank, element, swizzle);
        const Buffer<T> tensor(random_values<T>(c.elements, "tensor"));
        c.layout.base = tensor.data();
        std::vector<char> images;
        for (const auto& at : places<Rank>(c.layout)) {
            const auto image = run_load<Rank>(c, at);
            images.insert(images.end(), image.begin(), image.end());
        }
        records.exact(
            "TMA load, rank " + std::to_string(Rank) + ", " + std::to_string(sizeof(T)) + "-byte, " + name_of(swizzle),
            images);
    }
}

template <class T, int Rank, bool Add>
void record_stores(Records& records, TensorElement element) {
    for (const Swizzle swizzle : kSwizzles) {
        const TensorCase c = make_tensor_case(Rank, element, swizzle);
        const auto before = random_values<T>(c.elements, "tensor");
        const auto tile = random_values<T>(c.layout.box_bytes() / sizeof(T), "tile");
        std::vector<T> tensors;
        for (const auto& at : places<Rank>(c.layout)) {
            const auto tensor = run_store<T, Rank, Add>(c, at, before, tile, Add ? 3 : 1);
            tensors.insert(tensors.end(), tensor.begin(), tensor.end());
        }
        const std::string name = std::string(Add ? "TMA add" : "TMA store") + ", rank " + std::to_string(Rank) + ", " +
                                 std::to_string(sizeof(T)) + "-byte, " + name_of(swizzle);
        if constexpr (Add)
            records.relative(name, 1e-6, tensors);  // the order of the blocks is not given
        else
            records.exact(name, tensors);
    }
}

template <class T>
const char* name_of_type() {
    return std::is_same_v<T, __nv_bfloat16> ? "bf16" : "fp16";
}

template <class T, int N, ptx::Major A, ptx::Major B, bool InRegisters>
void record_product(Records& records, bool every_swizzle) {
    const auto a = random_matrix<T>(kProductRows, kProductK, "a");
    const auto b = random_matrix<T>(kProductK, N, "b");
    const auto c = random_matrix<float>(kProductRows, N, "c");
    const auto major = [](ptx::Major m) { return m == ptx::Major::k ? std::string("k") : std::string("mn"); };
    for (const Swizzle a_swizzle : kSwizzles)
        for (const Swizzle b_swizzle : kSwizzles) {
            if (InRegisters && a_swizzle != Swizzle::none) continue;
            if (!every_swizzle && (b_swizzle != Swizzle::bytes_128 || (!InRegisters && a_swizzle != b_swizzle)))
                continue;
            records.relative(std::string("wgmma ") + name_of_type<T>() + " n" + std::to_string(N) + ", A " +
                                 (InRegisters ? "in registers" : major(A) + "-major " + name_of(a_swizzle)) + ", B " +
                                 major(B) + "-major " + name_of(b_swizzle),
                             5e-6, run_product<T, N, A, B, InRegisters>(a, b, c, a_swizzle, b_swizzle));
        }
}

template <class T, int N>
void record_products(Records& records, bool every_swizzle) {
    using enum ptx::Major;
    record_product<T, N, k, k, false>(records, every_swizzle);
    record_product<T, N, k, mn, false>(records, every_swizzle);
    record_product<T, N, mn, mn, false>(records, every_swizzle);
    record_product<T, N, mn, k, false>(records, every_swizzle);
    record_product<T, N, k, mn, true>(records, every_swizzle);
    record_product<T, N, k, k, true>(records, every_swizzle);
}

/// One warpgroup gives registers back, the other takes them.
__global__ void __launch_bounds__(256, 1) trade_registers(unsigned* out) {
    unsigned value = threadIdx.x;
    if (ptx::warpgroup() == 0) {
        ptx::give_back_registers<40>();
        value *= 3;
    } else {
        ptx::take_registers<232>();
        value *= 5;
    }
    out[threadIdx.x] = value;
}

}  // namespace

void record_hopper(Records& records) {
    record_loads<uint16_t, 2>(records, TensorElement::bf16);
    record_loads<uint16_t, 3>(records, TensorElement::fp16);
    record_loads<uint16_t, 4>(records, TensorElement::bf16);
    record_loads<uint16_t, 5>(records, TensorElement::bf16);
    record_loads<uint32_t, 2>(records, TensorElement::f32);
    record_stores<uint16_t, 2, false>(records, TensorElement::bf16);
    record_stores<uint16_t, 3, false>(records, TensorElement::bf16);
    record_stores<uint16_t, 4, false>(records, TensorElement::fp16);
    record_stores<float, 2, true>(records, TensorElement::f32);
    record_stores<float, 3, true>(records, TensorElement::f32);
    record_stores<float, 4, true>(records, TensorElement::f32);
    record_products<__nv_bfloat16, 64>(records, true);
    record_products<__half, 64>(records, false);
    record_products<__nv_bfloat16, 8>(records, false);
    record_products<__nv_bfloat16, 96>(records, false);
    record_products<__nv_bfloat16, 128>(records, false);
    record_products<__nv_bfloat16, 256>(records, false);
    records.relative(
        "wgmma: accumulators as the next product's operand", 2e-3,
        run_chained_products(random_matrix<__nv_bfloat16>(64, 64, "a"), random_matrix<__nv_bfloat16>(64, 64, "b")));
    records.relative("TMA, mbarriers, wgmma: a GEMM in three stages", 5e-6,
                     run_gemm(random_matrix<__nv_bfloat16>(100, 456, "a"), random_matrix<__nv_bfloat16>(140, 456, "b"),
                              100, 140, 456));
    Buffer<unsigned> traded(256);
    launch(trade_registers, 1, 256, {}, nullptr, traded.data());
    records.exact("setmaxnreg", traded.values());
}

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

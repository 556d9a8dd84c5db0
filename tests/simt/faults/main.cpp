// simt_faults KERNEL good|bad: runs one kernel of faults.cuh in a process of its own, since a sanitizer ends it.
// Exit code 0: the result was right; 3: wrong; 4: simt::Error (its text on standard error); anything else: the
// sanitizer's.
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "kernels/simt/buffer.h"
#include "tests/simt/faults/faults.cuh"
#include "tests/simt/faults/hopper_faults.cuh"

namespace {

using namespace ballast::simt;
using namespace ballast::simt::faults;

constexpr unsigned kBlocks = 3;

/// What kernels get to work on: y and x, plain or as rows of kColumns.
struct Arguments {
    float* y;
    const float* x;
    TensorMap y_map, x_map;
};
using Start = std::function<void(const Arguments&, SharedBytes)>;

Start plain(void (*kernel)(float*, const float*)) {
    return
        [=](const Arguments& a, SharedBytes shared) { launch(kernel, kBlocks, kThreads, shared, nullptr, a.y, a.x); };
}
Start loading(void (*kernel)(TensorMap, TensorMap, float*)) {
    return [=](const Arguments& a, SharedBytes shared) {
        launch(kernel, kBlocks, kThreads, shared, nullptr, a.y_map, a.x_map, a.y);
    };
}
Start storing(void (*kernel)(TensorMap, TensorMap, const float*)) {
    return [=](const Arguments& a, SharedBytes shared) {
        launch(kernel, kBlocks, kThreads, shared, nullptr, a.y_map, a.x_map, a.x);
    };
}

TensorMap map_of(const float* base, size_t elements) {
    return make_tensor_map({.base = base,
                            .element = TensorElement::f32,
                            .rank = 2,
                            .size = {kColumns, (elements + kColumns - 1) / kColumns},
                            .stride = {kColumns * sizeof(float)},
                            .box = {kColumns, kTileRows}});
}

/// out[i] of x under the right kernel.
using Expected = std::function<float(const std::vector<float>& x, size_t i)>;

bool right(const Start& start, size_t inputs, size_t outputs, SharedBytes shared, const Expected& expected) {
    std::vector<float> x(inputs);
    for (size_t i = 0; i < inputs; ++i) x[i] = static_cast<float>(i + 1);
    const Buffer<float> input(x);
    Buffer<float> output(std::vector<float>(outputs, 0.0f));
    start({output.data(), input.data(), map_of(output.data(), outputs), map_of(input.data(), inputs)}, shared);
    const auto values = output.values();
    for (size_t i = 0; i < outputs; ++i)
        if (!(values[i] == expected(x, i))) return false;
    return true;
}

float same(const std::vector<float>& x, size_t i) { return x[i]; }
float mirrored(const std::vector<float>& x, size_t i) {
    return x[i / kThreads * kThreads + kThreads - 1 - i % kThreads];
}
float mirrored_in_warp(const std::vector<float>& x, size_t i) { return x[i ^ 31]; }
float neighbour(const std::vector<float>& x, size_t i) { return x[i ^ 1]; }
float left_half(const std::vector<float>& x, size_t i) {  // 8 of 16 columns
    return __bfloat162float(__float2bfloat16(x[i / 8 * 16 + i % 8]));
}
float first_of_blocks(const std::vector<float>& x, size_t) { return x[0] + x[kThreads] + x[2 * kThreads]; }

struct Case {
    Start good, bad;
    Expected expected;
    size_t inputs = kBlocks * kThreads, outputs = kBlocks * kThreads;
    SharedBytes shared{};
};

void add_hopper_cases(std::map<std::string, Case>& all) {
    constexpr SharedBytes kTwoTiles = SmemPlan().take<float>(2 * kThreads, 128).shared();
    constexpr SharedBytes kOperand = SmemPlan().take<__nv_bfloat16>(kThreads, 128).shared();
    constexpr size_t kAll = kBlocks * kThreads;
    const auto add_pipeline = [&](const char* name, void (*bad)(TensorMap, TensorMap, float*)) {
        all[name] = {loading(pipeline<PipelineFault::none>), loading(bad), same, 4 * kAll, 4 * kAll, kTwoTiles};
    };
    add_pipeline("no_empty_wait", pipeline<PipelineFault::no_empty_wait>);
    add_pipeline("early_release", pipeline<PipelineFault::early_release>);
    add_pipeline("wrong_bytes", pipeline<PipelineFault::wrong_bytes>);
    add_pipeline("no_initialisation", pipeline<PipelineFault::no_initialisation>);
    add_pipeline("no_init_fence", pipeline<PipelineFault::no_init_fence>);
    add_pipeline("no_barrier_on_init", pipeline<PipelineFault::no_barrier_on_init>);
    all["load_without_wait"] = {
        loading(load_without_wait<false>), loading(load_without_wait<true>), same, kAll, kAll, kTwoTiles};
    const auto add_store = [&](const char* name, void (*bad)(TensorMap, TensorMap, const float*)) {
        all[name] = {storing(store<StoreFault::none>), storing(bad), same, 2 * kAll, 2 * kAll, kTwoTiles};
    };
    add_store("store_no_proxy_fence", store<StoreFault::no_proxy_fence>);
    add_store("store_no_barrier", store<StoreFault::no_barrier>);
    add_store("store_no_wait", store<StoreFault::no_wait>);
    add_store("store_overwritten_tile", store<StoreFault::overwritten_tile>);
    const auto add_product = [&](const char* name, void (*bad)(float*, const float*)) {
        all[name] = {plain(product<WgmmaFault::none>), plain(bad), left_half, 8 * kAll, 4 * kAll, kOperand};
    };
    add_product("wgmma_no_proxy_fence", product<WgmmaFault::no_proxy_fence>);
    add_product("wgmma_no_barrier", product<WgmmaFault::no_barrier>);
    add_product("wgmma_no_fence", product<WgmmaFault::no_fence>);
    add_product("wgmma_late_wait", product<WgmmaFault::late_wait>);
    add_product("wgmma_no_wait", product<WgmmaFault::no_wait>);
    add_product("wgmma_changed_registers", product<WgmmaFault::changed_registers>);
    add_product("wgmma_overwritten_operand", product<WgmmaFault::overwritten_operand>);
}

const std::map<std::string, Case>& cases() {
    constexpr SharedBytes kCopies = SmemPlan().take<float>(4 * kThreads).shared();
    constexpr SharedBytes kTwo = SmemPlan().take<float>(kThreads).take<float>(kThreads).shared();
    constexpr size_t kAll = kBlocks * kThreads;
    static std::map<std::string, Case> all{
        {"missing_barrier", {plain(missing_barrier<false>), plain(missing_barrier<true>), mirrored}},
        {"missing_syncwarp", {plain(missing_syncwarp<false>), plain(missing_syncwarp<true>), mirrored_in_warp}},
        {"missing_wait", {plain(missing_wait<false>), plain(missing_wait<true>), same, 4 * kAll, 4 * kAll, kCopies}},
        {"plain_add_between_blocks",
         {plain(plain_add_between_blocks<false>), plain(plain_add_between_blocks<true>), first_of_blocks, kAll, 1}},
        {"carved",
         {plain(out_of_bounds<Where::carved, false>), plain(out_of_bounds<Where::carved, true>), same, kAll, kAll,
          kTwo}},
        {"last_carved",
         {plain(out_of_bounds<Where::last_carved, false>), plain(out_of_bounds<Where::last_carved, true>), same, kAll,
          kAll, kTwo}},
        {"static_array",
         {plain(out_of_bounds<Where::static_array, false>), plain(out_of_bounds<Where::static_array, true>), same, kAll,
          kAll, kTwo}},
        {"global",
         {plain(out_of_bounds<Where::global, false>), plain(out_of_bounds<Where::global, true>), same, kAll, kAll,
          kTwo}},
        {"divergent_barrier", {plain(divergent_barrier<false>), plain(divergent_barrier<true>), mirrored}},
        {"skipped_barrier", {plain(skipped_barrier<false>), plain(skipped_barrier<true>), same}},
        {"divergent_shuffle", {plain(divergent_shuffle<false>), plain(divergent_shuffle<true>), neighbour}},
        {"forgotten_arrival", {plain(forgotten_arrival<false>), plain(forgotten_arrival<true>), same}},
    };
    add_hopper_cases(all);
    return all;
}

}  // namespace

int main(int argc, char** argv) {
    const auto found = argc == 3 ? cases().find(argv[1]) : cases().end();
    if (found == cases().end()) {
        std::fprintf(stderr, "usage: simt_faults KERNEL good|bad\n");
        return 2;
    }
    const Case& c = found->second;
    try {
        return right(std::string(argv[2]) == "bad" ? c.bad : c.good, c.inputs, c.outputs, c.shared, c.expected) ? 0 : 3;
    } catch (const Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 4;
    }
}

// wgmma: products are performed when they are waited for. Operands are checked when a product is issued, and read when
// it is performed. In between, the accumulators are NaN.
#include "kernels/simt/runtime/wgmma.h"

#include <algorithm>
#include <bit>

#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/matrix_tile.h"
#include "kernels/simt/runtime/tensor_core.h"

namespace ballast::simt {
namespace {

using Accumulator = WgmmaQueue::Accumulator;
using Product = WgmmaQueue::Product;

constexpr unsigned K = 16, kRows = Accumulator::kRows;
constexpr uint32_t kPending = 0x7fc0dead;  // a NaN, told from those of arithmetic

/// Accumulator e of a lane: PTX ISA, "Register Fragments" of wgmma.
float& element(Accumulator& accumulator, unsigned lane, unsigned e) {
    const unsigned row = lane / 4 + e / 2 % 2 * 8, column = lane % 4 * 2 + e / 4 * 8 + e % 2;
    return accumulator.rows[row * static_cast<unsigned>(accumulator.n) + column];
}

bool in_shared_memory(const WarpgroupProduct& product) { return product.a_registers == nullptr; }

struct Operands {
    explicit Operands(const WarpgroupProduct& product)
        : a(Executor::current().shared_memory().dynamic(), product.a, product.a_mn_major),
          b(Executor::current().shared_memory().dynamic(), product.b, product.b_mn_major) {}
    MatrixTile a, b;
};

/// Calls visit(16 bytes) for what the warp reads of A and B; with a lane, for the part that this lane stands for.
template <class Visit>
void for_each_chunk(const WarpgroupProduct& product, unsigned warp, unsigned first, unsigned step, const Visit& visit) {
    const Operands operands(product);
    if (in_shared_memory(product))
        for (unsigned i = first; i < 2 * kRows; i += step) visit(operands.a.chunk(warp % 4 * kRows, i));
    for (unsigned i = first; i < 2 * static_cast<unsigned>(product.n); i += step) visit(operands.b.chunk(0, i));
}

void read_as_proxy(const WarpgroupProduct& product, Warp& warp) {
    if (!under_tsan()) return;
    const auto note = [](const void* chunk) { note_read(chunk, 16); };
    Executor::current().async_proxy().read([&] { for_each_chunk(product, warp.id, 0, 1, note); }, &warp.wgmma.done);
}

// ---- issue ----------------------------------------------------------------------------------------------------------

struct Issue {
    WarpgroupProduct operands;
    Location where;
};

Accumulator& accumulator_of(const Lanes& lanes, WgmmaQueue& queue) {
    const auto& [first, where] = lanes.at<Issue>(0);
    for (const auto& accumulator : queue.accumulators) {
        if (accumulator->registers[0] != first.d) continue;
        if (accumulator->n != first.n) fail("wgmma: another N than a product under way into the same registers", where);
        return *accumulator;
    }
    if (!queue.fenced) fail("wgmma: no wgmma_fence() since the last wait", where);
    Accumulator& accumulator = *queue.accumulators.emplace_back(std::make_unique<Accumulator>());
    accumulator.n = first.n;
    accumulator.rows.resize(kRows * static_cast<unsigned>(first.n));
    for (unsigned lane = 0; lane < 32; ++lane) {
        float* registers = accumulator.registers[lane] = lanes.at<Issue>(lane).operands.d;
        for (unsigned e = 0; e < static_cast<unsigned>(first.n) / 2; ++e) {
            element(accumulator, lane, e) = registers[e];
            registers[e] = std::bit_cast<float>(kPending);
        }
    }
    return accumulator;
}

void combine_issue(const Lanes& lanes) {
    const auto& [first, where] = lanes.at<Issue>(0);
    if (lanes.active() != kFullWarp) fail("wgmma needs all 32 lanes; some have exited", where);
    ++statistics().matrix_products;
    Warp& warp = *Executor::current().running().warp;
    Product product{.operands = first, .accumulator = &accumulator_of(lanes, warp.wgmma), .where = where};
    for (unsigned lane = 0; lane < 32; ++lane) {
        const WarpgroupProduct& mine = lanes.at<Issue>(lane).operands;
        if (!mine.agrees_with(first)) fail("wgmma: the lanes of a warp pass different descriptors", where);
        product.a_registers[lane] = mine.a_registers;
        if (!in_shared_memory(mine)) std::copy_n(mine.a_registers, 4, product.a[lane].begin());
    }
    ++product.accumulator->uses;
    read_as_proxy(first, warp);
    warp.wgmma.history.push_back(first);
    warp.wgmma.products.push_back(std::move(product));
    ++warp.wgmma.uncommitted;
}

// ---- completion -----------------------------------------------------------------------------------------------------

/// A and B as floats, rows of k and of n.
struct Values {
    float a[kRows][K], b[K][256];
};

void check_a_registers(const Product& product) {
    for (unsigned lane = 0; lane < 32; ++lane) {
        const uint32_t* now = product.a_registers[lane];
        if (is_poisoned(now, 16) || !std::equal(now, now + 4, product.a[lane].begin()))
            fail("wgmma: A's registers changed, or went out of scope, before the wait", product.where);
    }
}

template <class T>
void read_values(const Product& product, unsigned warp, Values& values) {
    const Operands operands(product.operands);
    for (unsigned n = 0; n < static_cast<unsigned>(product.operands.n); ++n)
        for (unsigned k = 0; k < K; ++k) values.b[k][n] = T::value(*operands.b.at(n, k));
    if (in_shared_memory(product.operands)) {
        for (unsigned m = 0; m < kRows; ++m)
            for (unsigned k = 0; k < K; ++k) values.a[m][k] = T::value(*operands.a.at(warp % 4 * kRows + m, k));
        return;
    }
    check_a_registers(product);
    for (unsigned lane = 0; lane < 32; ++lane) unpack_a<T>(product.a[lane].data(), lane, values.a);
}

void write_back(Accumulator& accumulator, Location where) {
    for (unsigned lane = 0; lane < 32; ++lane) {
        float* registers = accumulator.registers[lane];
        const unsigned count = static_cast<unsigned>(accumulator.n) / 2;
        for (unsigned e = 0; e < count; ++e) {
            if (is_poisoned(registers + e, 4) || std::bit_cast<uint32_t>(registers[e]) != kPending)
                fail("wgmma: accumulators were written, or went out of scope, before the wait", where);
            registers[e] = element(accumulator, lane, e);
        }
    }
}

void perform_first(Warp& warp) {
    WgmmaQueue& queue = warp.wgmma;
    const Product product = std::move(queue.products.front());
    queue.products.erase(queue.products.begin());
    read_as_proxy(product.operands, warp);
    Values values;
    if (product.operands.half)
        read_values<Fp16>(product, warp.id, values);
    else
        read_values<Bf16>(product, warp.id, values);
    Accumulator& accumulator = *product.accumulator;
    const auto n = static_cast<unsigned>(accumulator.n);
    if (!product.operands.accumulate) std::fill(accumulator.rows.begin(), accumulator.rows.end(), 0.0f);
    for (unsigned m = 0; m < kRows; ++m) {
        float* row = &accumulator.rows[m * n];
        for (unsigned k = 0; k < K; ++k)
            for (unsigned j = 0; j < n; ++j) row[j] += values.a[m][k] * values.b[k][j];
    }
    if (--accumulator.uses > 0) return;
    write_back(accumulator, product.where);
    std::erase_if(queue.accumulators, [&](const auto& other) { return other.get() == &accumulator; });
}

struct Wait {
    unsigned groups_to_keep;
};

void combine_fence(const Lanes&) { Executor::current().running().warp->wgmma.fenced = true; }

void combine_commit(const Lanes&) {
    WgmmaQueue& queue = Executor::current().running().warp->wgmma;
    queue.groups.push_back(std::exchange(queue.uncommitted, 0));
}

void combine_wait(const Lanes& lanes) {
    Warp& warp = *Executor::current().running().warp;
    auto& groups = warp.wgmma.groups;
    while (groups.size() > lanes.at<Wait>(0).groups_to_keep) {
        for (unsigned i = 0; i < groups.front(); ++i) perform_first(warp);
        groups.erase(groups.begin());
    }
    warp.wgmma.fenced = false;
}

}  // namespace

void check_products(const std::vector<Warp>& warps, unsigned threads) {
    for (const Warp& warp : warps) {
        if (!warp.wgmma.products.empty())
            throw Error(text_of(warp.wgmma.products.front().where) + ": a wgmma was never waited for");
        if (warp.wgmma.history.empty()) continue;
        const size_t first = warp.id / 4 * 4;
        const auto& history = warps[first].wgmma.history;
        const auto agree = [](const WarpgroupProduct& x, const WarpgroupProduct& y) { return x.agrees_with(y); };
        if (threads < (first + 4) * 32 ||
            !std::equal(history.begin(), history.end(), warp.wgmma.history.begin(), warp.wgmma.history.end(), agree))
            throw Error("the four warps of a warpgroup did not issue the same wgmmas");
    }
}

namespace host {

void wgmma(const WarpgroupProduct& operands, Location where) {
    const CalledFromKernel call;
    Executor& executor = Executor::current();
    const Fiber& me = executor.running();
    for_each_chunk(operands, me.warp->id, me.lane(), 32, [&](const void* chunk) {
        executor.shared_memory().offset_of(chunk, where);
        if (is_poisoned(chunk, 16)) fail("wgmma: an operand is larger than what the kernel set aside", where);
        note_read(chunk, 16);
    });
    const Quiet quiet;
    Issue issue{operands, where};
    meet(kFullWarp, &issue, combine_issue, "wgmma", where);
}

void wgmma_fence(Location where) {
    const Quiet quiet;
    char nothing = 0;
    meet(kFullWarp, &nothing, combine_fence, "wgmma_fence", where);
}

void wgmma_commit(Location where) {
    const Quiet quiet;
    char nothing = 0;
    meet(kFullWarp, &nothing, combine_commit, "wgmma_commit", where);
}

void wgmma_wait(unsigned groups_to_keep, Location where) {
    const Quiet quiet;
    Wait wait{groups_to_keep};
    meet(kFullWarp, &wait, combine_wait, "wgmma_wait", where);
    acquire(&Executor::current().running().warp->wgmma.done);
}

}  // namespace host
}  // namespace ballast::simt

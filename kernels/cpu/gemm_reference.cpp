#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_reference.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/tile_memory.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// A task computes one block of C, going through k in slices whose parts of A and B fit the L2 cache.
template <class A>
class ReferenceTask {
  public:
    static constexpr int64_t kMaxRows = 32 * kMicroRows, kMinRows = 4 * kMicroRows, kColumns = 128, kDepth = 256;

    ReferenceTask(const GemmArguments& arguments, int64_t row, int64_t rows, int64_t column)
        : g_(arguments),
          row_(row),
          column_(column),
          rows_(std::min(rows, g_.m - row)),
          columns_(std::min(kColumns, g_.n - column)),
          memory_(sizeof(A) * (rows * kColumns + kDepth * kColumns + rows * kDepth)),
          c_(memory_.template take<A>(rows * kColumns)),
          b_(memory_.template take<A>(kDepth * kColumns)),
          a_(memory_.template take<A>(rows * kDepth)) {}

    void run() {
        load_c();
        for (int64_t k = 0; k < g_.k; k += kDepth) {
            const int64_t depth = std::min(kDepth, g_.k - k);
            pack_b(k, depth);
            const LeftOperand<A> a = left(k, depth);
            for (int64_t r = 0; r < rows_; r += kMicroRows)
                multiply_rows<A>(std::min(kMicroRows, rows_ - r), columns_, depth,
                                 {a.data + r * a.row, a.row, a.column},
                                 {b_, kMicroColumns<A>, depth * kMicroColumns<A>}, c_ + r * kColumns, kColumns, true);
        }
        copy_rows(c(), g_.n, c_, kColumns, rows_, columns_, columns_);
    }

  private:
    template <class T>
    static const T* at(const Matrix& m, int64_t i, int64_t j) {
        return static_cast<const T*>(m.data) + i * m.row + j * m.column;
    }
    A* c() const { return static_cast<A*>(g_.c) + row_ * g_.n + column_; }

    void load_c() {
        if (g_.accumulate)
            copy_rows(c_, kColumns, c(), g_.n, rows_, columns_, kColumns);
        else if (g_.bias != nullptr)
            copy_rows(c_, kColumns, static_cast<const A*>(g_.bias) + column_, 0, rows_, columns_, kColumns);
        else
            std::memset(c_, 0, static_cast<size_t>(rows_ * kColumns) * sizeof(A));
    }

    /// The task's part of A for this slice. Where it lies by columns (weight gradients) it is copied, since the columns
    /// are often a power of two apart and would fall on each other in the cache.
    LeftOperand<A> left(int64_t k, int64_t depth) {
        const A* from = at<A>(g_.a, row_, k);
        if (g_.a.column == 1) return {from, g_.a.row, 1};
        copy_rows(a_, rows_, from, g_.a.column, depth, rows_, rows_);
        return {a_, 1, rows_};
    }

    /// B's rows k … k+depth as panels of kMicroColumns columns, the last padded with zeros.
    void pack_b(int64_t k, int64_t depth) {
        for (int64_t n = 0; n < columns_; n += kMicroColumns<A>) {
            const int64_t width = std::min(kMicroColumns<A>, columns_ - n);
            A* panel = b_ + n * depth;
            const A* from = at<A>(g_.b, k, column_ + n);
            if (g_.b.column == 1)
                copy_rows(panel, kMicroColumns<A>, from, g_.b.row, depth, width, kMicroColumns<A>);
            else
                transpose_rows(panel, kMicroColumns<A>, from, g_.b.column, width, depth, kMicroColumns<A>);
        }
    }

    const GemmArguments& g_;
    int64_t row_, column_, rows_, columns_;
    TileMemory memory_;
    A *c_, *b_, *a_;
};

void gemm_reference(ThreadPool* pool, const GemmArguments& arguments) {
    with_accumulation_type(arguments.dtype, [&]<class A>(A) {
        using Task = ReferenceTask<A>;
        // High blocks copy less, low ones feed more threads; an element's chain of additions is the same in any.
        const int64_t across = ceil_div(arguments.n, Task::kColumns), wanted = pool ? 4 * pool->num_threads() : 1;
        int64_t rows = Task::kMaxRows;
        while (rows > Task::kMinRows && across * ceil_div(arguments.m, rows) < wanted) rows /= 2;
        const int64_t tasks = across * ceil_div(arguments.m, rows);
        const GemmArguments product = before_epilogue(arguments);
        const auto task = [&](int64_t i) HWY_ATTR {
            const int64_t row = i / across * rows, column = i % across * Task::kColumns;
            Task(product, row, rows, column).run();
            apply_epilogue(arguments, row, column, std::min(rows, arguments.m - row),
                           std::min(Task::kColumns, arguments.n - column));
        };
        if (pool != nullptr) return pool->parallel_for(tasks, task);
        for (int64_t i = 0; i < tasks; ++i) task(i);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(gemm_reference);

void gemm_reference(Context& context, const GemmArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(gemm_reference)(&context.pool(), arguments);
}

void gemm_reference_on_this_thread(const GemmArguments& arguments) {
    HWY_DYNAMIC_DISPATCH(gemm_reference)(nullptr, arguments);
}

}  // namespace ballast::cpu
#endif

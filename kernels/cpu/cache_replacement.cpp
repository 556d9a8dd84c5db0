// Chooses the cached row that the next row replaces (kernels/ops.h, lightest_slots). A task is a key-value head of a
// sequence.
#include <limits>

#include "kernels/cpu/common.h"
#include "kernels/cpu/ops.h"

namespace ballast::cpu {
namespace {

using ops::kCacheBlockRows;

/// The slots of one key-value head of a sequence.
template <class A>
struct HeadSlots {
    A* mass;
    const int32_t *positions, *blocks;
    int64_t cache_blocks;

    int64_t row(int64_t slot) const {
        const int64_t block = blocks[slot / kCacheBlockRows];
        require(0 <= block && block < cache_blocks, "a table names a block that the cache has not");
        return block * kCacheBlockRows + slot % kCacheBlockRows;
    }
    /// The lightest row of slots [0, capacity) that stands before `end`.
    int64_t lightest(int64_t capacity, int64_t end) const {
        int64_t best = -1;
        A least = 0;
        for (int64_t slot = 0; slot < capacity; ++slot) {
            const int64_t at = row(slot);
            if (positions[at] >= end) continue;
            const A weight = mass[at] == mass[at] ? mass[at] : -std::numeric_limits<A>::infinity();
            if (best >= 0 && (weight > least || (weight == least && positions[at] > positions[best]))) continue;
            best = at;
            least = weight;
        }
        require(best >= 0, "no row of a cache may be replaced");
        return best;
    }
};

}  // namespace

void lightest_slots(Context& context, const Tensor& slots, const Tensor& mass, const Tensor& positions,
                    const Tensor& table, const Tensor& position, int64_t capacity, int64_t recent) {
    const int64_t heads = table.dim(1), width = table.dim(2);
    with_accumulation_type(mass.dtype, [&]<class A>(A) {
        context.pool().parallel_for(slots.numel(), [&](int64_t bg) {
            const int64_t p = position.ptr<int32_t>()[bg / heads];
            if (p < 0) return void(slots.ptr<int32_t>()[bg] = -1);
            const HeadSlots<A> head{mass.ptr<A>(), positions.ptr<int32_t>(), table.ptr<int32_t>() + bg * width,
                                    mass.dim(0)};
            const int64_t row = p < capacity ? head.row(p) : head.lightest(capacity, p - recent);
            head.mass[row] = 0;
            slots.ptr<int32_t>()[bg] = static_cast<int32_t>(row);
        });
    });
}

}  // namespace ballast::cpu

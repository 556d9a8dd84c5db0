// Small per-thread working memory for tiles. Every task allocates from it; the memory is kept between tasks and freed
// with the thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace ballast::cpu {

/// Allocates aligned pieces of this thread's buffer. Only one object per level may exist per thread at a time. Level 1
/// is for tasks that call other users of level 0.
template <int level> class TileMemoryOf {
  public:
    /// `bytes` must cover all allocations, each rounded up to kAlignment.
    explicit TileMemoryOf(size_t bytes) {
        if (bytes > buffer_.bytes) {
            buffer_.data.reset(std::aligned_alloc(kAlignment, padded(bytes)));
            buffer_.bytes = buffer_.data ? padded(bytes) : 0;
            if (!buffer_.data) throw std::bad_alloc();
        }
        next_ = static_cast<std::byte*>(buffer_.data.get());
    }

    /// `count` elements, uninitialised.
    template <class A> A* take(int64_t count) {
        A* piece = reinterpret_cast<A*>(next_);
        next_ += padded(static_cast<size_t>(count) * sizeof(A));
        return piece;
    }

    static constexpr size_t padded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  private:
    static constexpr size_t kAlignment = 64;
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    struct Buffer {
        std::unique_ptr<void, Free> data;
        size_t bytes;
    };
    static inline thread_local Buffer buffer_;
    std::byte* next_;
};
using TileMemory = TileMemoryOf<0>;
using OuterTileMemory = TileMemoryOf<1>;

}  // namespace ballast::cpu

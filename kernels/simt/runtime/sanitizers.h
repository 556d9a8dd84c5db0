// The sanitizers' runtimes, if this program has them. The symbols are weak and the executor itself is never compiled
// with a sanitizer, so that one object file serves plain, ASan and TSan programs.
#pragma once

#include <cstddef>

extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, std::size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, std::size_t* old_size);
[[gnu::weak]] void __asan_poison_memory_region(const volatile void*, std::size_t);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*, std::size_t);
[[gnu::weak]] void* __asan_region_is_poisoned(void*, std::size_t);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void*);
[[gnu::weak]] void __tsan_switch_to_fiber(void*, unsigned flags);
[[gnu::weak]] void __tsan_set_fiber_name(void*, const char*);
[[gnu::weak]] void __tsan_acquire(void*);
[[gnu::weak]] void __tsan_release(void*);
[[gnu::weak]] void __tsan_func_entry(void* caller);
[[gnu::weak]] void __tsan_func_exit();
[[gnu::weak]] void __tsan_read_range(const void*, std::size_t);
[[gnu::weak]] void __tsan_write_range(void*, std::size_t);
[[gnu::weak]] void AnnotateIgnoreReadsBegin(const char*, int);
[[gnu::weak]] void AnnotateIgnoreReadsEnd(const char*, int);
[[gnu::weak]] void AnnotateIgnoreWritesBegin(const char*, int);
[[gnu::weak]] void AnnotateIgnoreWritesEnd(const char*, int);
}

namespace ballast::simt {

inline constexpr unsigned kNoSync = 1;  ///< __tsan_switch_to_fiber: a switch orders nothing by itself

inline bool under_tsan() { return __tsan_create_fiber != nullptr; }

inline void poison(const void* p, std::size_t bytes) {
    if (__asan_poison_memory_region) __asan_poison_memory_region(p, bytes);
}
inline void unpoison(const void* p, std::size_t bytes) {
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(p, bytes);
}
inline bool is_poisoned(const void* p, std::size_t bytes) {
    return __asan_region_is_poisoned && __asan_region_is_poisoned(const_cast<void*>(p), bytes);
}

/// Tells ThreadSanitizer of an access; not while Quiet is alive on this thread.
inline void note_read(const void* p, std::size_t bytes) {
    if (__tsan_read_range) __tsan_read_range(p, bytes);
}
inline void note_write(void* p, std::size_t bytes) {
    if (__tsan_write_range) __tsan_write_range(p, bytes);
}

/// For functions that kernels call: accesses noted in its scope are reported with the line of the call.
struct CalledFromKernel {
    [[gnu::always_inline]] CalledFromKernel() {
        if (__tsan_func_entry) __tsan_func_entry(__builtin_return_address(0));
    }
    ~CalledFromKernel() {
        if (__tsan_func_exit) __tsan_func_exit();
    }
    CalledFromKernel(const CalledFromKernel&) = delete;
    CalledFromKernel& operator=(const CalledFromKernel&) = delete;
};

/// Everything before release(x) on one thread happens before everything after acquire(x) on another.
inline void acquire(void* x) {
    if (__tsan_acquire) __tsan_acquire(x);
}
inline void release(void* x) {
    if (__tsan_release) __tsan_release(x);
}

/// TSan intercepts malloc and memcpy even in files that are not instrumented; this hides the executor's own
/// bookkeeping. It must not exist on a fiber that is left for the last time.
struct Quiet {
    Quiet() {
        if (!AnnotateIgnoreReadsBegin) return;
        AnnotateIgnoreReadsBegin("", 0);
        AnnotateIgnoreWritesBegin("", 0);
    }
    ~Quiet() {
        if (!AnnotateIgnoreReadsBegin) return;
        AnnotateIgnoreReadsEnd("", 0);
        AnnotateIgnoreWritesEnd("", 0);
    }
    Quiet(const Quiet&) = delete;
    Quiet& operator=(const Quiet&) = delete;
};

/// In its scope ThreadSanitizer attributes all accesses to another thread; no effect if `identity` is nullptr.
class ActingAs {
  public:
    explicit ActingAs(void* identity) : me_(identity ? __tsan_get_current_fiber() : nullptr) {
        if (me_) __tsan_switch_to_fiber(identity, kNoSync);
    }
    ~ActingAs() {
        if (me_) __tsan_switch_to_fiber(me_, kNoSync);
    }
    ActingAs(const ActingAs&) = delete;
    ActingAs& operator=(const ActingAs&) = delete;

  private:
    void* me_;
};

}  // namespace ballast::simt

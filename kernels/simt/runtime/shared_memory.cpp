#include "kernels/simt/runtime/shared_memory.h"

#include <sys/mman.h>

#include <cstring>

#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/sanitizers.h"

namespace ballast::simt {
namespace {

char* map_pages(void* where, size_t bytes, int flags) {
    void* pages = mmap(where, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (pages == MAP_FAILED) throw Error("no memory for a block's shared memory");
    return static_cast<char*>(pages);
}

}  // namespace

SharedMemory::SharedMemory() : arena_(map_pages(nullptr, kSize, 0)), base_(arena_ + kGuard) {}

SharedMemory::~SharedMemory() {
    unpoison(arena_, kSize);
    munmap(arena_, kSize);
}

void SharedMemory::reset(size_t dynamic_bytes) {
    unpoison(arena_, kSize);
    if (under_tsan()) map_pages(arena_, kSize, MAP_FIXED);  // new pages: TSan forgets what the last block did here
    constexpr size_t kStatic = 16 << 10;                    // static_array() fills what lies beyond
    std::memset(arena_, 0xff, std::min(kSize, kGuard + dynamic_bytes + kStatic));
    poison(arena_, kGuard);
    poison(base_ + dynamic_bytes, kSize - kGuard - dynamic_bytes);
    used_ = dynamic_bytes;
    arrays_.clear();
}

void* SharedMemory::static_array(const void* key, size_t bytes, size_t alignment) {
    void*& array = arrays_[key];
    if (array != nullptr) return array;
    constexpr size_t kRedZone = 32;
    const size_t begin = (used_ + kRedZone + alignment - 1) / alignment * alignment;
    if (begin + bytes + kGuard + kRedZone > kSize) throw Error("static shared memory is exhausted");
    array = base_ + begin;
    unpoison(array, bytes);
    std::memset(array, 0xff, bytes);
    used_ = begin + bytes;
    return array;
}

unsigned SharedMemory::offset_of(const void* p, Location where) const {
    const auto offset = static_cast<const char*>(p) - base_;
    if (offset < 0 || offset >= static_cast<std::ptrdiff_t>(kSize - kGuard))
        fail("the address is not in shared memory", where);
    return static_cast<unsigned>(offset);
}

}  // namespace ballast::simt

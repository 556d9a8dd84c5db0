#include "kernels/simt/device_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>

#include "kernels/simt/options.h"

namespace ballast::simt {
namespace {

/// The allocations of strict mode, and how many DeviceAccess live for each and for all.
struct Region {
    size_t bytes;
    int open = 0;
};
struct Regions {
    std::mutex mutex;
    std::map<uintptr_t, Region> all;  // by first address
    int open = 0;

    std::map<uintptr_t, Region>::iterator find(const void* p) {
        const auto address = reinterpret_cast<uintptr_t>(p);
        auto after = all.upper_bound(address);
        if (after == all.begin()) return all.end();
        --after;
        return address < after->first + after->second.bytes ? after : all.end();
    }
    void protect(const std::pair<const uintptr_t, Region>& entry) const {
        const int access = open > 0 || entry.second.open > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
        mprotect(reinterpret_cast<void*>(entry.first), entry.second.bytes, access);
    }
    void count(const void* p, int change) {
        if (p == nullptr) {
            open += change;
            for (const auto& entry : all) protect(entry);
        } else if (const auto entry = find(p); entry != all.end()) {
            entry->second.open += change;
            protect(*entry);
        }
    }
};

Regions& regions() {
    static auto* instance = new Regions;  // outlives every static that owns device memory
    return *instance;
}

constexpr size_t kPage = 4096;

}  // namespace

void* allocate_device_memory(size_t bytes) {
    if (!options().strict) {
        void* memory = nullptr;
        return posix_memalign(&memory, 256, bytes) == 0 ? memory : nullptr;
    }
    Regions& all = regions();
    const std::lock_guard lock(all.mutex);
    const size_t size = (bytes + kPage - 1) / kPage * kPage;
    void* memory =
        mmap(nullptr, size, all.open > 0 ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    all.all[reinterpret_cast<uintptr_t>(memory)] = {size};
    return memory;
}

void release_device_memory(void* memory) noexcept {
    Regions& all = regions();
    const std::lock_guard lock(all.mutex);
    const auto found = all.all.find(reinterpret_cast<uintptr_t>(memory));
    if (found == all.all.end()) return std::free(memory);
    munmap(memory, found->second.bytes);
    all.all.erase(found);
}

bool is_device_memory(const void* p) {
    if (!options().strict) return true;
    Regions& all = regions();
    const std::lock_guard lock(all.mutex);
    return all.find(p) != all.all.end();
}

DeviceAccess::DeviceAccess(const void* p) : p_(p) {
    if (!options().strict) return;
    const std::lock_guard lock(regions().mutex);
    regions().count(p_, 1);
}

DeviceAccess::~DeviceAccess() {
    if (!options().strict) return;
    const std::lock_guard lock(regions().mutex);
    regions().count(p_, -1);
}

}  // namespace ballast::simt

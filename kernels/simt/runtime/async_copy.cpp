// cp.async: copies that complete when they are waited for.
#include "kernels/simt/host.h"
#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/sanitizers.h"

namespace ballast::simt::host {

void push_copy(const AsyncCopy& copy) {
    const Quiet quiet;
    Fiber& fiber = Executor::current().running();
    fiber.copies.push_back(copy);
    ++fiber.uncommitted_copies;
}

void commit_copies() {
    const Quiet quiet;
    Fiber& fiber = Executor::current().running();
    fiber.copy_groups.push_back(std::exchange(fiber.uncommitted_copies, 0));
}

bool pop_copy(unsigned groups_to_keep, AsyncCopy& copy) {
    const Quiet quiet;
    Fiber& fiber = Executor::current().running();
    auto& groups = fiber.copy_groups;
    while (groups.size() > groups_to_keep && groups.front() == 0) groups.erase(groups.begin());
    if (groups.size() <= groups_to_keep) return false;
    --groups.front();
    copy = fiber.copies.front();
    fiber.copies.erase(fiber.copies.begin());
    return true;
}

}  // namespace ballast::simt::host

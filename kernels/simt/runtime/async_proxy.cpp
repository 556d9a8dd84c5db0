// TMA's queue: which threads may continue when, and the events for ThreadSanitizer. tensor_copy.cpp does the copies.
#include "kernels/simt/runtime/async_proxy.h"

#include <algorithm>
#include <utility>

#include "kernels/simt/runtime/executor.h"
#include "kernels/simt/runtime/tensor_copy.h"

namespace ballast::simt {

AsyncProxy::~AsyncProxy() {
    if (writer_) __tsan_destroy_fiber(writer_);
    if (reader_) __tsan_destroy_fiber(reader_);
}

void AsyncProxy::start_block(char* before) {
    copies_.clear();
    waiters_.clear();
    unfenced_.clear();
    unseen_.clear();
    if (!under_tsan()) return;
    if (!writer_) {
        writer_ = __tsan_create_fiber(0);
        __tsan_set_fiber_name(writer_, "asynchronous proxy, writing");
        reader_ = __tsan_create_fiber(0);
        __tsan_set_fiber_name(reader_, "asynchronous proxy, reading");
        barrier_order_.resize(SharedMemory::kSize / 4);
    }
    for (void* identity : {writer_, reader_}) {
        const ActingAs proxy(identity);
        acquire(before);
    }
}

void AsyncProxy::finish_block(char* after) {
    std::erase_if(copies_, [&](const auto& copy) {
        if (!copy->has_read) return false;
        write(*copy);
        return true;
    });
    for (void* identity : {writer_, reader_}) {
        const ActingAs proxy(identity);
        release(after);
    }
}

void AsyncProxy::check_end_of_block() const {
    if (!unseen_.empty()) throw Error(text_of(unseen_.front().where) + ": a TMA load was never waited for");
}

void AsyncProxy::issue(std::unique_ptr<TensorCopy> copy, RunQueue& queue) {
    if (copy->is_load()) {
        const auto is_mine = [&](const Waiter& waiter) { return waiter.barrier == copy->barrier; };
        if (std::any_of(unfenced_.begin(), unfenced_.end(), is_mine))
            fail("TMA: the mbarrier was initialised without an mbarrier_init_fence() after it", copy->where);
        unseen_.push_back({copy->barrier, copy->where});
    }
    release(&copy->issued);
    copies_.push_back(std::move(copy));
    while (!options().late_copies && !copies_.empty()) perform(0, queue);
}

bool AsyncProxy::perform_load(RunQueue& queue) {
    const auto load = std::find_if(copies_.begin(), copies_.end(), [](const auto& copy) { return copy->is_load(); });
    if (load == copies_.end()) return false;
    perform(static_cast<size_t>(load - copies_.begin()), queue);
    return true;
}

void AsyncProxy::perform_any(RunQueue& queue) {
    if (!copies_.empty()) perform(queue.random() % copies_.size(), queue);
}

void AsyncProxy::wait_for_stores(Fiber& owner, unsigned groups_to_keep, bool read) {
    Fiber::TensorStores& stores = owner.tensor_stores;
    if (stores.groups > groups_to_keep)
        stores.groups_read = std::max(stores.groups_read, stores.groups - groups_to_keep);
    std::erase_if(copies_, [&](const std::unique_ptr<TensorCopy>& copy) {
        if (copy->is_load() || copy->owner != &owner || copy->group + groups_to_keep >= stores.groups) return false;
        if (!copy->has_read) read_tile(*copy);
        if (!read) write(*copy);
        return !read;
    });
    acquire(&owner.tensor_stores_done);
}

/// One step: all of a load; a store reads its tile, and the next time writes it.
void AsyncProxy::perform(size_t index, RunQueue& queue) {
    TensorCopy& copy = *copies_[index];
    if (!copy.is_load() && !copy.has_read) {
        read_tile(copy);
        return;
    }
    write(copy);
    if (copy.is_load()) complete_bytes(copy.barrier, copy.layout.box_bytes(), queue);
    copies_.erase(copies_.begin() + static_cast<std::ptrdiff_t>(index));
}

void AsyncProxy::read_tile(TensorCopy& copy) {
    read([&] { note_read(copy.tile, copy.layout.box_bytes()); }, &copy.owner->tensor_stores_done);
    copy.contents = contents_of_tile(copy);
    copy.has_read = true;
}

void AsyncProxy::write(TensorCopy& copy) {
    const ActingAs writer(writer_);
    acquire(&copy.issued);
    if (copy.is_load()) {
        note_write(copy.tile, copy.layout.box_bytes());
        for_each_row(copy, [](const TensorRow& row) { note_read(row.begin(), row.bytes()); });
        fill_tile(copy);
        release(&written_);
        release(order_of(copy.barrier, mbarrier_phase(copy.barrier)));
    } else {
        // Additions are atomic, so that those of several blocks are no race.
        if (copy.kind == host::TensorCopyKind::store)
            for_each_row(copy, [](const TensorRow& row) { note_write(row.begin(), row.bytes()); });
        write_rows(copy);
        release(&copy.owner->tensor_stores_done);
    }
}

namespace host {
namespace {

void check(const TensorCopy& copy, int rank) {
    if (copy.layout.rank != rank)
        fail("TMA: " + std::to_string(rank) + " coordinates for a tensor of rank " + std::to_string(copy.layout.rank),
             copy.where);
    if (copy.kind == TensorCopyKind::add && copy.layout.element != TensorElement::f32)
        fail("TMA: additions are to f32 tensors", copy.where);
    const unsigned alignment = tile_alignment(copy.layout.swizzle);
    if (Executor::current().shared_memory().offset_of(copy.tile, copy.where) % alignment != 0)
        fail("TMA: the tile is not aligned to " + std::to_string(alignment) + " bytes", copy.where);
    if (is_poisoned(copy.tile, copy.layout.box_bytes()))
        fail("TMA: the tile is larger than what the kernel set aside", copy.where);
    for_each_row(copy, [&](const TensorRow& row) {
        if (is_poisoned(row.begin(), row.bytes())) fail("TMA: the tensor is larger than its memory", copy.where);
    });
}

}  // namespace

void fence_proxy_async() {
    const Quiet quiet;
    Executor& executor = Executor::current();
    executor.async_proxy().fence();
    executor.async_proxy().fence_initialisations(executor.running());
}

void tensor_copy(TensorCopyKind kind, void* tile, const TensorMap& map, const int* coordinates, int rank,
                 uint64_t* barrier, Location where) {
    const CalledFromKernel call;
    const TensorLayout layout = layout_of(map);
    if (kind != TensorCopyKind::load) note_read(tile, layout.box_bytes());
    const Quiet quiet;
    Executor& executor = Executor::current();
    Fiber& me = executor.running();
    auto copy = std::make_unique<TensorCopy>(TensorCopy{.kind = kind,
                                                        .layout = layout,
                                                        .tile = static_cast<char*>(tile),
                                                        .barrier = barrier,
                                                        .owner = &me,
                                                        .group = me.tensor_stores.groups,
                                                        .where = where});
    std::copy_n(coordinates, rank, copy->coordinates.begin());
    check(*copy, rank);
    if (copy->is_load()) {
        executor.shared_memory().offset_of(barrier, where);
        std::memset(tile, 0xff, layout.box_bytes());  // NaN until it is there
    } else {
        ++me.tensor_stores.uncommitted;
        me.tensor_stores.last = where;
        executor.async_proxy().read([&] { note_read(tile, layout.box_bytes()); }, &copy->issued);
    }
    executor.async_proxy().issue(std::move(copy), executor.queue());
}

void commit_tensor_stores() {
    Fiber::TensorStores& stores = Executor::current().running().tensor_stores;
    ++stores.groups;
    stores.uncommitted = 0;
}

void wait_for_tensor_stores(unsigned groups_to_keep, bool read) {
    const Quiet quiet;
    Executor& executor = Executor::current();
    executor.async_proxy().wait_for_stores(executor.running(), groups_to_keep, read);
}

}  // namespace host
}  // namespace ballast::simt

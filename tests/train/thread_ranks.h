// Ranks that are threads of one process: everything of several ranks but MPI itself, in every build and under
// sanitizers.
#pragma once

#include <barrier>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/communicator.h"

namespace ballast::test {

/// Where messages wait for whom they are for.
class ThreadWorld {
  public:
    explicit ThreadWorld(int size) : size_(size), barrier_(size) {}

    int size() const { return size_; }
    void barrier() { barrier_.arrive_and_wait(); }
    void send(int from, int to, std::span<const std::byte> bytes) {
        const std::lock_guard lock(mutex_);
        messages_[{from, to}].emplace_back(bytes.begin(), bytes.end());
        bytes_sent_ += bytes.size();
        arrived_.notify_all();
    }
    void receive(int from, int to, std::span<std::byte> bytes) {
        std::unique_lock lock(mutex_);
        auto& queue = messages_[{from, to}];
        arrived_.wait(lock, [&] { return !queue.empty(); });
        if (queue.front().size() != bytes.size()) throw std::logic_error("a message of another length");
        std::copy(queue.front().begin(), queue.front().end(), bytes.begin());
        queue.pop_front();
    }
    size_t bytes_sent() const { return bytes_sent_; }

  private:
    int size_;
    std::barrier<> barrier_;
    std::mutex mutex_;
    std::condition_variable arrived_;
    std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> messages_;
    size_t bytes_sent_ = 0;
};

class ThreadRank : public Communicator {
  public:
    ThreadRank(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}

    int rank() const override { return rank_; }
    int size() const override { return world_.size(); }
    int local_size() const override { return world_.size(); }
    int local_rank() const override { return rank_; }
    void barrier() override { world_.barrier(); }
    void broadcast(std::span<std::byte> bytes) override {
        for (int r = 1; r < size(); ++r)
            if (is_first()) world_.send(0, r, bytes);
        if (!is_first()) world_.receive(0, rank_, bytes);
    }
    void exchange(std::span<const OutgoingBytes> outgoing, std::span<const IncomingBytes> incoming) override {
        for (const auto& message : outgoing) world_.send(rank_, message.to, message.bytes);
        for (const auto& message : incoming) world_.receive(message.from, rank_, message.bytes);
    }
    bool any(bool mine) override {
        const std::byte flag{mine};
        for (int r = 0; r < size(); ++r) world_.send(rank_, r, {&flag, 1});
        bool result = false;
        for (int r = 0; r < size(); ++r) {
            std::byte theirs{};
            world_.receive(r, rank_, {&theirs, 1});
            result = result || theirs != std::byte{0};
        }
        return result;
    }

  private:
    ThreadWorld& world_;
    int rank_;
};

/// Runs `body` on `size` ranks. The first exception of the lowest rank is thrown again; a rank that throws while others
/// wait for it hangs the test, as it would hang a run without abort().
inline size_t on_ranks(int size, const std::function<void(Communicator&)>& body) {
    ThreadWorld world(size);
    std::vector<std::exception_ptr> errors(static_cast<size_t>(size));
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r)
        threads.emplace_back([&, r] {
            try {
                ThreadRank rank(world, r);
                body(rank);
            } catch (...) {
                errors[static_cast<size_t>(r)] = std::current_exception();
            }
        });
    for (auto& thread : threads) thread.join();
    for (const auto& error : errors)
        if (error) std::rethrow_exception(error);
    return world.bytes_sent();
}

}  // namespace ballast::test

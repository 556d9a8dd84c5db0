#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <exception>
#include <vector>

#include "base/communicator_mpi.h"
#include "base/error.h"

namespace ballast {
namespace {

void check(int error, const char* what) {
    if (error == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(error, text, &length);
    throw RunError(fmt::format("MPI: {} failed: {}", what, std::string_view(text, static_cast<size_t>(length))));
}

class MpiCommunicator : public Communicator {
  public:
    MpiCommunicator() {
        int provided = 0;
        // Any thread communicates, but never two at a time.
        MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
        require(provided >= MPI_THREAD_SERIALIZED, "MPI does not work on more than one thread");
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "asking for the rank");
        check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "asking for the number of ranks");
        MPI_Comm machine;
        check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine),
              "finding the ranks of this machine");
        check(MPI_Comm_size(machine, &local_size_), "counting the ranks of this machine");
        check(MPI_Comm_rank(machine, &local_rank_), "asking for the rank on this machine");
        MPI_Comm_free(&machine);
    }
    ~MpiCommunicator() override {
        if (std::uncaught_exceptions() == 0) MPI_Finalize();  // which waits for all ranks
    }

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    int local_size() const override { return local_size_; }
    int local_rank() const override { return local_rank_; }

    void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "a barrier"); }

    void broadcast(std::span<std::byte> bytes) override {
        for_pieces(bytes, [](std::span<std::byte> piece) {
            check(MPI_Bcast(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, 0, MPI_COMM_WORLD), "a broadcast");
        });
    }

    void exchange(std::span<const OutgoingBytes> outgoing, std::span<const IncomingBytes> incoming) override {
        std::vector<MPI_Request> requests;
        for (const IncomingBytes& message : incoming)
            for_pieces(message.bytes, [&](std::span<std::byte> piece) {
                check(MPI_Irecv(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, message.from, 0, MPI_COMM_WORLD,
                                &requests.emplace_back()),
                      "receiving");
            });
        for (const OutgoingBytes& message : outgoing)
            for_pieces(message.bytes, [&](std::span<const std::byte> piece) {
                check(MPI_Isend(piece.data(), static_cast<int>(piece.size()), MPI_BYTE, message.to, 0, MPI_COMM_WORLD,
                                &requests.emplace_back()),
                      "sending");
            });
        check(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE), "an exchange");
    }

    bool any(bool mine) override {
        int flag = mine ? 1 : 0;
        check(MPI_Allreduce(MPI_IN_PLACE, &flag, 1, MPI_INT, MPI_LOR, MPI_COMM_WORLD), "an agreement");
        return flag != 0;
    }

    void abort(int exit_code) override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

  private:
    /// MPI counts in int.
    template <class Byte, class Use>
    static void for_pieces(std::span<Byte> bytes, Use&& use) {
        constexpr size_t kMost = size_t{1} << 30;
        for (size_t at = 0; at < bytes.size(); at += kMost) use(bytes.subspan(at, std::min(kMost, bytes.size() - at)));
    }

    int rank_ = 0, size_ = 1, local_size_ = 1, local_rank_ = 0;
};

}  // namespace

bool mpi_is_built() { return true; }
std::unique_ptr<Communicator> make_mpi_communicator() { return std::make_unique<MpiCommunicator>(); }

}  // namespace ballast

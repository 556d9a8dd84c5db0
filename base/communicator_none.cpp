#include "base/communicator_mpi.h"
#include "base/error.h"

namespace ballast {

bool mpi_is_built() { return false; }
std::unique_ptr<Communicator> make_mpi_communicator() { throw InternalError("this build has no MPI"); }

}  // namespace ballast

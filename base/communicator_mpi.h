// The MPI part of base/communicator.h. Implemented by communicator_mpi.cpp where the build has MPI, else by
// communicator_none.cpp.
#pragma once

#include <memory>

#include "base/communicator.h"

namespace ballast {

bool mpi_is_built();
/// Starts MPI. The communicator's destructor ends MPI. Only when mpi_is_built().
std::unique_ptr<Communicator> make_mpi_communicator();

}  // namespace ballast

// MPI's side of base/communicator.h: communicator_mpi.cpp where the build has an MPI, else communicator_none.cpp.
#pragma once

#include <memory>

#include "base/communicator.h"

namespace ballast {

bool mpi_is_built();
/// Starts MPI; ends it when the communicator goes. Only when mpi_is_built().
std::unique_ptr<Communicator> make_mpi_communicator();

}  // namespace ballast

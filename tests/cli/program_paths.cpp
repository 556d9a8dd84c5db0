// The only file of the program's tests that knows where the build is: all others are the same for every build, so that two
// builds on one machine compile them once (ccache).
#include "tests/cli/program.h"

namespace ballast::test {

const std::string kBallastPath = BALLAST_BINARY;
const std::string kBallast = "'" + kBallastPath + "'";
#ifdef BALLAST_MPIRUN
const std::string kMpirun = "'" BALLAST_MPIRUN "'";
const std::string kEndlessFinalizePath = BALLAST_ENDLESS_FINALIZE;
#endif

}  // namespace ballast::test

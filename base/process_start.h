// Prepares the process's environment when a program starts.
#pragma once

namespace ballast {

/// Every Ballast program calls this first. It corrects settings inherited from the parent process. Closed standard
/// streams are opened on /dev/null, so that none of our files gets their descriptors. When a write exceeds the file
/// size limit (ulimit -f), the write fails with an error; without this call the process would end. OMP_PROC_BIND,
/// OMP_PLACES and GOMP_CPU_AFFINITY are removed from the environment before any library reads them: these settings for
/// OpenMP programs could bind this process to one core.
void prepare_process();

}  // namespace ballast

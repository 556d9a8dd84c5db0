// What a program finds when it starts, and what it should not.
#pragma once

namespace ballast {

/// The first thing a program of ours does. Undoes what a careless parent leaves behind: standard streams that are
/// closed lead to /dev/null, so that no file of ours becomes one of them, and a limit on the size of files (ulimit -f)
/// is an error of the write instead of the end of the process. A program that calls this is also kept from being bound
/// to one core by settings meant for OpenMP programs (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY): they are taken out
/// of the environment before any library reads them.
void prepare_process();

}  // namespace ballast

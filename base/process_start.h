// Prepares the process's environment when a program starts.
#pragma once

#include <string>
#include <vector>

namespace ballast {

/// Every Ballast program calls this first. It corrects settings inherited from the parent process. Closed standard
/// streams are opened on /dev/null, so that none of our files gets their descriptors. When a write exceeds the file
/// size limit (ulimit -f), the write fails with an error; without this call the process would end. As many files may be
/// open as the system grants (ulimit -Hn). Two kinds of settings are removed from the environment before any library
/// reads them: OMP_PROC_BIND, OMP_PLACES and GOMP_CPU_AFFINITY, which could bind this process to one core, and
/// ONEDNN_DEFAULT_FPMATH_MODE, which rounds the operands of f32 products. A warning names oneDNN's other settings,
/// which remain.
void prepare_process();

/// The environment's settings for oneDNN, such as "ONEDNN_MAX_CPU_ISA=AVX2"; its prefixes are ONEDNN_ and DNNL_.
std::vector<std::string> onednn_settings();

}  // namespace ballast

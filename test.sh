#!/usr/bin/env bash
# Installs what is missing, builds, and tests.
#
# The build is the one with the SIMT executor, so the CUDA kernels are tested too. Under the sanitizers they are tested one by
# one, not as whole models.
#
# Where nvcc is installed, the CUDA backend is compiled and linked as well, and tested too if there is a GPU.
#
#   ./test.sh          the optimised build
#   ./test.sh --asan   under AddressSanitizer and UndefinedBehaviorSanitizer
#   ./test.sh --tsan   under ThreadSanitizer
#   ./test.sh --all    all three, one after the other
#   ./test.sh --full   the same, and what mostly repeats what others have shown: more whole runs on the executor, every room
#                      under the sanitizers and for every processor, CUDA for all architectures, each file compiled on its own
set -euo pipefail
cd "$(dirname "$0")"
export CCACHE_BASEDIR=${CCACHE_BASEDIR-$PWD}   # what two builds compile alike is compiled once

# Whole runs and streams on the executor that show what shorter ones, or the CPU's, have shown.
repeated='^infer on (strict )?simt:(families|paged cache = one|masked pass = literal cache: (RoPE, off|no positions))'
repeated+='|^train on strict simt:(recomputed|data[.]first_token|a run repeats|every setting|every kind|interrupted|fp16: a scale|a killed run|a step saves|resumed)'
cuda=0
unity=ON   # several files compile as one; --full compiles each on its own, which shows what one forgot to include
# Under AddressSanitizer: the rooms that read files or count in raw memory. The others put these together; scripts/fuzz.sh,
# a nightly job, reads their files under it.
asan="test_base test_kernels test_data test_model test_infer test_train test_simt"
not_asan='^(fuzz|eval|moa|report|sweep|cli|structure|scripts|conformance)$'
# Under ThreadSanitizer: the rooms that start threads, ranks as threads among them, and the executor's own tests, which run
# attention in several orders of threads. Others have threads through these.
tsan="test_base test_data test_train test_simt"
not_tsan='^(fuzz|kernels|model|infer|eval|moa|report|sweep|cli|structure|scripts|conformance)$'
architectures="90a-real"   # Hopper, which has every kernel
case "${1:-}" in
  "") presets="simt" cuda=1 ;;
  --asan) presets="simt-asan" ;;
  --tsan) presets="simt-tsan" ;;
  --all) presets="simt simt-asan simt-tsan" cuda=1 ;;
  --full) presets="simt simt-asan simt-tsan" cuda=1 unity=OFF repeated='^$' asan=all not_asan='^$' tsan=all not_tsan='^$' architectures= ;;
  -h|--help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
  *) echo "test: unknown option $1; see ./test.sh --help" >&2; exit 2 ;;
esac

scripts/install_packages.sh libopenmpi-dev openmpi-bin   # for the tests of several processes
for preset in $presets; do
  how=()
  [ "$preset" != simt ] || how=(-DBALLAST_UNITY=$unity)   # always so under the sanitizers
  [ "$unity" = ON ] || how+=(-DBALLAST_BASELINE_SIMD=OFF)   # --full: for every processor, under the sanitizers too
  cmake --preset "$preset" "${how[@]}" >/dev/null
  case "$preset" in   # the sanitizers' presets leave out what takes longest
    simt) targets=all leave_out=(-E "$repeated") ;;
    simt-asan) targets=$asan leave_out=(-LE "$not_asan") ;;
    simt-tsan) targets=$tsan leave_out=(-LE "$not_tsan") ;;
  esac
  # shellcheck disable=SC2086  # several targets
  cmake --build --preset "$preset" --target $targets
  ctest --preset "$preset" "${leave_out[@]}"   # ends with the count of tests passed and failed
done

[ "$cuda" = 1 ] || exit 0
if command -v mpirun >/dev/null; then   # the program with MPI, on several processes
  cmake --preset mpi -DBALLAST_UNITY=$unity >/dev/null
  cmake --build --preset mpi --target ballast test_cli test_faults
  ctest --preset mpi -R '^(cli|faults):mpi:'
fi
tests/scripts/gpu_check_test.sh
if ! command -v nvcc >/dev/null; then
  echo "test: nvcc is not on the PATH, so the CUDA backend was not compiled"
  exit 0
fi
# The tests read the machine code with cuobjdump; a toolkit without it gets PyPI's, where that is within reach.
if ! command -v cuobjdump >/dev/null && [ ! -e build/cuda-tools ] && command -v python3 >/dev/null; then
  python3 -m pip install -q --no-deps --target build/cuda-tools \
    nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm 2>/dev/null || rm -rf build/cuda-tools
fi
# Without a GPU the tests' own sources would only be compiled once more: those of the program, the benchmarks and what nvcc compiles.
labels=cuda-build
targets="ballast benchmarks simt_conformance"
[ "$architectures" != "" ] || targets=all
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then   # a part of both labels
  labels=cuda architectures= targets=all
fi
mpi=OFF   # with it and NCCL: ranks on GPUs
for header in {/usr,/usr/local,/usr/local/cuda}/include/nccl.h; do
  if command -v mpirun >/dev/null && [ -e "$header" ]; then mpi=ON; fi
done
cmake --preset cuda -DBALLAST_UNITY=$unity -DBALLAST_MPI=$mpi -DBALLAST_BUILD_BENCHMARKS=ON \
  -DCMAKE_CUDA_ARCHITECTURES="$architectures" >/dev/null
# shellcheck disable=SC2086  # several targets
cmake --build --preset cuda --target $targets
ctest --preset cuda -L "$labels"

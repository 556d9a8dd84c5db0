#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test.
#
# The build is the one with the SIMT executor, so the CUDA kernels are tested too. Under the sanitizers they are tested one by
# one, not as whole models.
#
#   ./test.sh          the optimised build
#   ./test.sh --asan   under AddressSanitizer and UndefinedBehaviorSanitizer
#   ./test.sh --tsan   under ThreadSanitizer
#   ./test.sh --all    all three, one after the other
set -euo pipefail
cd "$(dirname "$0")"

case "${1:-}" in
  "") presets="simt" ;;
  --asan) presets="simt-asan" ;;
  --tsan) presets="simt-tsan" ;;
  --all) presets="simt simt-asan simt-tsan" ;;
  -h|--help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
  *) echo "test: unknown option $1; see ./test.sh --help" >&2; exit 2 ;;
esac

scripts/install_packages.sh
for preset in $presets; do
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  ctest --preset "$preset"   # ends with the count of tests passed and failed
done

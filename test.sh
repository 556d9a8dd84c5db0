#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test.
#
#   ./test.sh          the optimised build
#   ./test.sh --asan   under AddressSanitizer and UndefinedBehaviorSanitizer
#   ./test.sh --tsan   under ThreadSanitizer
#   ./test.sh --all    all three, one after the other
set -euo pipefail
cd "$(dirname "$0")"

case "${1:-}" in
  "") presets="cpu" ;;
  --asan) presets="cpu-asan" ;;
  --tsan) presets="cpu-tsan" ;;
  --all) presets="cpu cpu-asan cpu-tsan" ;;
  -h|--help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
  *) echo "test: unknown option $1; see ./test.sh --help" >&2; exit 2 ;;
esac

scripts/install_packages.sh
for preset in $presets; do
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  ctest --preset "$preset"   # ends with the count of tests passed and failed
done

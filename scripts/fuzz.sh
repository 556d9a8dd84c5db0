#!/usr/bin/env bash
# Fuzzes the readers of all files that Ballast takes from outside, for a nightly job.
#
# Builds the preset fuzz (clang 16's libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer), then feeds each format's reader
# (tests/fuzz/formats*.cpp) for N seconds. A format's inputs begin as small valid files, and what covers new code is kept in
# DIR/corpus/FORMAT for the next night. Whatever is no UserError (another exception, a crash, a leak, more than 2 GiB, more than
# 20 s for an input) is a fault: its input is in DIR/crashes/FORMAT, its report in DIR/logs. Prints a line for each format.
#
#   scripts/fuzz.sh [--seconds N] [--only FORMAT] [--out DIR]
#
#   --seconds N     for each format; 60
#   --only FORMAT   one format alone
#   --out DIR       build/fuzz/out
#
# To see a fault again:  BALLAST_FUZZ_FORMAT=FORMAT build/fuzz/bin/fuzz_readers FILE
# When it is mended, the input goes to tests/fuzz/crashes/FORMAT, where every build replays it (ctest -L fuzz).
# Ends with 0 when nothing was found, with 1 after a fault, with 2 when something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "fuzz: $1; see scripts/fuzz.sh --help" >&2; exit 2; }

seconds=60 only='' out=build/fuzz/out
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
    --seconds|--only|--out)
      [ $# -ge 2 ] || usage "$1 needs a value"
      case "$1" in --seconds) seconds=$2 ;; --only) only=$2 ;; --out) out=$2 ;; esac
      shift 2 ;;
    *) usage "unknown option $1" ;;
  esac
done
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || usage "--seconds takes a whole number, not '$seconds'"

if ! command -v clang++-16 >/dev/null || ! ls /usr/lib/llvm-16/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a >/dev/null 2>&1; then
  echo "fuzz: needs clang 16 and its libFuzzer:  apt-get install clang-16 libclang-rt-16-dev" >&2
  exit 2
fi
scripts/install_packages.sh

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz

memory=$(mktemp -d "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/ballast-fuzz-XXXXXX")   # inputs are files
trap 'rm -rf "$memory"' EXIT
export TMPDIR=$memory
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 LSAN_OPTIONS=suppressions=$PWD/tests/fuzz/libfuzzer/leaks.txt:print_suppressions=0

mkdir -p "$out"
formats=$(build/fuzz/bin/fuzz_seeds "$out/seeds")
if [ -n "$only" ]; then
  grep -qx "$only" <<<"$formats" || usage "no format '$only'; there are: $(xargs <<<"$formats")"
  formats=$only
fi

# A line of FORMAT's log: the last number behind KEY.
figure() { grep -o "$1 *[0-9]*" "$2" | tail -1 | grep -o '[0-9]*$' || echo 0; }

found=0
for format in $formats; do
  corpus=$out/corpus/$format crashes=$out/crashes/$format log=$out/logs/$format.log
  mkdir -p "$corpus" "$crashes" "$out/logs"
  before=$(find "$crashes" -type f | wc -l)
  BALLAST_FUZZ_FORMAT=$format build/fuzz/bin/fuzz_readers "$corpus" "$out/seeds/$format" \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=65536 -close_fd_mask=3 \
    -print_final_stats=1 -artifact_prefix="$crashes/" >"$log" 2>&1 && status=0 || status=$?
  rm -rf "${memory:?}"/*
  count=$(($(find "$crashes" -type f | wc -l) - before))
  printf '%-18s %9d executions  %6d edges  %d faults\n' "$format" \
    "$(figure 'stat::number_of_executed_units:' "$log")" "$(figure 'cov:' "$log")" "$count"
  [ "$status" = 0 ] || { found=1; echo "  ended with $status; see $log"; }
done
exit $found

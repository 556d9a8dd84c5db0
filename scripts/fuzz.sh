#!/usr/bin/env bash
# Fuzzes the readers of all files that Ballast takes from outside, for a nightly job.
#
# Builds the preset fuzz (clang 16's libFuzzer, AddressSanitizer, UndefinedBehaviorSanitizer), then feeds each format's reader
# (tests/fuzz/formats*.cpp) for N seconds. A format's inputs begin as small valid files, and what covers new code is kept in
# DIR/corpus/FORMAT for the next night. Whatever is no UserError (another exception, a crash, a leak, more than 2 GiB, more than
# 20 s for an input) is a fault: its input is in DIR/crashes/FORMAT, its report in DIR/logs. Prints a line for each format.
#
#   scripts/fuzz.sh [--seconds N] [--total N] [--jobs N] [--only FORMAT] [--out DIR]
#
#   --seconds N     for each format; 60
#   --total N       leave out formats that earlier calls have fuzzed for N seconds in all without a fault (DIR/seconds), and begin
#                   with those that have had least: an hour each, in pieces, is --seconds 600 --total 3600, called until it is done
#   --jobs N        formats at a time; 1
#   --only FORMAT   one format alone
#   --out DIR       build/fuzz/out
#
# To see a fault again:  BALLAST_FUZZ_FORMAT=FORMAT build/fuzz/bin/fuzz_readers FILE
# When it is mended, the input goes to tests/fuzz/crashes/FORMAT, where every build replays it (ctest -L fuzz).
# Ends with 0 when nothing was found, with 1 after a fault, with 2 when something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "fuzz: $1; see scripts/fuzz.sh --help" >&2; exit 2; }

seconds=60 total=0 jobs=1 only='' out=build/fuzz/out
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
    --seconds|--total|--jobs|--only|--out)
      [ $# -ge 2 ] || usage "$1 needs a value"
      case "$1" in --only|--out) ;; *) [[ "$2" =~ ^[1-9][0-9]*$ ]] || usage "$1 takes a whole number, not '$2'" ;; esac
      declare "${1#--}=$2"
      shift 2 ;;
    *) usage "unknown option $1" ;;
  esac
done

if ! command -v clang++-16 >/dev/null || ! ls /usr/lib/llvm-16/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a >/dev/null 2>&1; then
  echo "fuzz: needs clang 16 and its libFuzzer:  apt-get install clang-16 libclang-rt-16-dev" >&2
  exit 2
fi
scripts/install_packages.sh

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz

memory=$(mktemp -d "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/ballast-fuzz-XXXXXX")   # inputs are files
trap 'rm -rf "$memory"' EXIT
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 LSAN_OPTIONS=suppressions=$PWD/tests/fuzz/libfuzzer/leaks.txt:print_suppressions=0

mkdir -p "$out"
formats=$(build/fuzz/bin/fuzz_seeds "$out/seeds")
if [ -n "$only" ]; then
  grep -qx "$only" <<<"$formats" || usage "no format '$only'; there are: $(xargs <<<"$formats")"
  formats=$only
fi

seconds_of() { cat "$out/seconds/$1" 2>/dev/null || echo 0; }   # in all calls

# Of a log: the last number behind KEY.
figure() { grep -o "$1 *[0-9]*" "$2" | tail -1 | grep -o '[0-9]*$' || echo 0; }

fuzz_one() {
  local format=$1 corpus=$out/corpus/$1 crashes=$out/crashes/$1 log=$out/logs/$1.log status=0 malloc_mb=1024 before count
  [ "$format" != jsonl_zst ] || malloc_mb=2304   # a frame may name a window of 2 GiB (zstd --long=31): reserved, not filled
  mkdir -p "$corpus" "$crashes" "$out/logs" "$out/seconds" "$memory/$format"
  before=$(find "$crashes" -type f | wc -l)
  TMPDIR=$memory/$format BALLAST_FUZZ_FORMAT=$format build/fuzz/bin/fuzz_readers "$corpus" "$out/seeds/$format" \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb="$malloc_mb" -max_len=65536 -close_fd_mask=3 \
    -print_final_stats=1 -artifact_prefix="$crashes/" >"$log" 2>&1 || status=$?
  rm -rf "${memory:?}/$format"
  count=$(($(find "$crashes" -type f | wc -l) - before))
  [ "$status" != 0 ] || echo $(($(seconds_of "$format") + seconds)) >"$out/seconds/$format"
  printf '%-18s %9d executions  %6d edges  %6d s in all  %d faults\n' "$format" \
    "$(figure 'stat::number_of_executed_units:' "$log")" "$(figure 'cov:' "$log")" "$(seconds_of "$format")" "$count"
  [ "$status" = 0 ] || { echo "  ended with $status; see $log"; return 1; }
}

due=$(for format in $formats; do
  had=$(seconds_of "$format")
  [ "$total" != 0 ] && [ "$had" -ge "$total" ] || echo "$had $format"
done | sort -s -n -k1,1 | cut -d' ' -f2)
export -f fuzz_one seconds_of figure
export seconds out memory
if [ -z "$due" ]; then
  echo "each format has been fuzzed for $total s"
elif ! xargs -n 1 -P "$jobs" bash -c 'fuzz_one "$1"' fuzz <<<"$due"; then
  exit 1
fi

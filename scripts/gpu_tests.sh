#!/usr/bin/env bash
# Runs every test of one test program in a process of its own, several at a time: a trap, a hang or an illegal address on a
# GPU ends one test and not the room. scripts/gpu_check.sh calls it.
#
#   gpu_tests.sh PROGRAM OUT [--filter SPEC] [--jobs N] [--each SECONDS] [--until EPOCH]
#
#   OUT             gets PROGRAM.tsv, a line a test (status, seconds, name) written as soon as it ended, and PROGRAM.log,
#                   what the tests that failed printed
#   --filter SPEC   Catch2's test specification; default: ~[cpu]~[not_cuda], what runs on a GPU
#   --jobs N        tests at a time; default 8
#   --each SECONDS  a test's limit; default 60
#   --until EPOCH   no test is begun after this second (date +%s); those are "left-out"
#
# Exit code: 0 all passed, 1 one failed, hung or was left out, 2 wrong arguments.
set -euo pipefail

fail() { echo "gpu_tests: $*" >&2; exit 2; }
[ $# -ge 2 ] || fail "usage: gpu_tests.sh PROGRAM OUT [--filter SPEC] [--jobs N] [--each SECONDS] [--until EPOCH]"
program=$1 out=$2 filter='~[cpu]~[not_cuda]' jobs=8
export each=60 until=9999999999
shift 2
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || fail "$1 needs a value"
  case "$1" in
    --filter) filter=$2 ;;
    --jobs) jobs=$2 ;;
    --each) each=$2 ;;
    --until) until=$2 ;;
    *) fail "unknown option $1" ;;
  esac
  shift 2
done
[ -x "$program" ] || fail "no such program: $program"
mkdir -p "$out"
name=$(basename "$program")
export program results="$out/$name.tsv" log="$out/$name.log"
: > "$results"
: > "$log"

one_test() {
  local test=$1 begin code=0 status=ok seconds=$each printed escaped left
  begin=$(date +%s)
  left=$((until - begin))
  if [ "$left" -le 0 ]; then printf 'left-out\t0\t%s\n' "$test" >> "$results"; return 0; fi
  [ "$left" -ge "$seconds" ] || seconds=$left
  escaped=$(sed 's/[][\\,]/\\&/g' <<< "$test")   # a name, not a specification
  printed=$(timeout --kill-after=2 "$seconds" "$program" "$escaped" 2>&1) || code=$?
  case $code in
    0) grep -qE '^All tests passed|assertions? in' <<< "$printed" || status=failed ;;   # a name that matched nothing
    124|137) status=timeout ;;
    *) status=failed ;;
  esac
  printf '%s\t%s\t%s\n' "$status" "$(($(date +%s) - begin))" "$test" >> "$results"
  [ "$status" = ok ] || printf '==== %s (%s, exit code %s)\n%s\n' "$test" "$status" "$code" "$(tail -c 3000 <<< "$printed")" >> "$log"
}
export -f one_test

# Catch2 2 exits with the number of names it lists.
names=$("$program" --list-test-names-only "$filter" 2>/dev/null || true)
[ -n "$names" ] || fail "$program has no test that matches $filter"
tr '\n' '\0' <<< "$names" | xargs -0 -P "$jobs" -I '{}' bash -c 'one_test "$1"' - '{}' || true

wanted=$(grep -c . <<< "$names")
passed=$(grep -c '^ok' "$results" || true)
echo "$name: $passed of $wanted tests passed"
grep -v '^ok' "$results" || true
[ "$passed" = "$wanted" ]

#!/usr/bin/env bash
# Runs every test of one test program in a process of its own, several at a time: a trap, a hang or an illegal address on a
# GPU ends one test and not the room. scripts/gpu_check.sh calls it.
#
#   gpu_tests.sh PROGRAM OUT [--name NAME] [--filter SPEC] [--jobs N] [--each SECONDS] [--until EPOCH]
#
#   OUT             gets NAME.names, the tests; NAME.tsv, a line a test (status, seconds, name) written as soon as it ended; and
#                   NAME.log, what the tests that did not pass printed. A test that is in .names alone was not run, or was stopped
#   --name NAME     default: the program's
#   --filter SPEC   Catch2's test specification; default: ~[cpu]~[not_cuda], what runs on a GPU
#   --jobs N        tests at a time; default 8
#   --each SECONDS  a test's limit; default 60
#   --until EPOCH   no test is begun after this second (date +%s), and none runs longer; those not begun are "left-out"
#
# Statuses: ok, skipped (the test checked nothing, as what it needs is not there), failed, timeout, left-out.
# Exit code: 0 all passed or were skipped, 1 one failed, hung or was left out, 2 wrong arguments.
set -euo pipefail

usage() { sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; }
fail() { echo "gpu_tests: $*" >&2; exit 2; }
case "${1:-}" in -h|--help) usage; exit 0 ;; esac
[ $# -ge 2 ] || fail "usage: gpu_tests.sh PROGRAM OUT [--name NAME] [--filter SPEC] [--jobs N] [--each SECONDS] [--until EPOCH]"
program=$1 out=$2 name=$(basename "$1") filter='~[cpu]~[not_cuda]' jobs=8
export each=60 until=9999999999
shift 2
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || fail "$1 needs a value"
  case "$1" in
    --name) name=$2 ;;
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
export program results="$out/$name.tsv" log="$out/$name.log"
: > "$results"
: > "$log"

one_test() {
  local test=$1 begin code=0 status seconds=$each printed="" escaped left
  begin=$(date +%s)
  left=$((until - begin))
  if [ "$left" -le 0 ]; then printf 'left-out\t0\t%s\n' "$test" >> "$results"; return 0; fi
  [ "$left" -ge "$seconds" ] || seconds=$left
  escaped=$(sed 's/[][\\,]/\\&/g' <<< "$test")   # a name, not a specification
  # In the foreground: a limit on all of this then ends the test too.
  printed=$(timeout --foreground --kill-after=2 "$seconds" "$program" "$escaped" 2>&1) || code=$?
  case $code in
    0)
      # Otherwise the name matched nothing.
      if grep -q '^All tests passed' <<< "$printed"; then status=ok
      elif grep -q '^assertions: - none -' <<< "$printed"; then status=skipped
      else status=failed; fi ;;
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
printf '%s\n' "$names" > "$out/$name.names"
tr '\n' '\0' <<< "$names" | xargs -0 -P "$jobs" -I '{}' bash -c 'one_test "$1"' - '{}' || true

count() { grep -c "^$1	" "$results" || true; }
wanted=$(grep -c . <<< "$names") passed=$(count ok) skipped=$(count skipped)
grep -v '^ok' "$results" || true
echo "$name: $passed of $wanted tests passed, $skipped skipped"
[ "$((passed + skipped))" = "$wanted" ]

#!/usr/bin/env bash
# Faults by hand, more of them than CI has time for.
#
#   tests/faults/run.sh --kills 1000 [--seed N] [--out FOLDER] [--build FOLDER]
#
# Kills in rounds of 50, each with a seed of its own, and writes a line a round into FOLDER/kills.log (build/faults).
# Stopped, the same command goes on after the last whole round. Ends with the counts, and with 1 at the first round that
# lost something, saying how to repeat it.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
kills=1000 seed=1 out=$root/build/faults build=$root/build/simt
while [ $# -gt 0 ]; do
  case "$1" in
    --kills) kills=$2 ;;
    --seed) seed=$2 ;;
    --out) out=$2 ;;
    --build) build=$2 ;;
    -h|--help) sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
    *) echo "run.sh: unknown option $1; see $0 --help" >&2; exit 2 ;;
  esac
  shift 2
done
test=$build/bin/test_faults
[ -x "$test" ] || { echo "run.sh: $test is not there; build it: cmake --build --preset simt --target test_faults" >&2; exit 2; }

mkdir -p "$out"
log=$out/kills.log
touch "$log"
rounds=$(((kills + 49) / 50))
for ((round = 0; round < rounds; ++round)); do
  now=$((seed + round))
  if grep -q "^seed $now:" "$log"; then continue; fi
  if ! BALLAST_FAULT_KILLS=50 BALLAST_FAULT_SEED=$now "$test" "*kills*" >"$out/round.txt" 2>&1; then
    cat "$out/round.txt"
    echo "run.sh: something was lost; again: BALLAST_FAULT_SEED=$now $test '*kills*'" >&2
    exit 1
  fi
  # "…: killed 22 times, 17 of them while …; 27 results of 27 as undisturbed; …"
  grep ': killed ' "$out/round.txt" | sed 's/.*: killed //' | awk -v seed="$now" '
    { kills += $1; writing += $3; results += $12 }
    END { printf "seed %d: %d kills, %d while a file was being written, %d results as undisturbed\n", seed, kills, writing, results }' |
    tee -a "$log"
done
awk '{ kills += $3; writing += $5; results += $12 }
     END { print kills " kills, " writing " of them while a file was being written; " results " results, all as undisturbed" }' "$log"

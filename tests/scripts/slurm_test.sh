#!/usr/bin/env bash
# scripts/slurm/train.sbatch without a Slurm: where it finds the run, what it queues again, and the code it ends with.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "slurm_test: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/path" "$work/run"

# srun notes its arguments and does what $DOES says, as a program that trains would.
cat > "$work/path/srun" <<'SRUN'
#!/usr/bin/env bash
echo "$*" > "$WORK/srun"
echo "${SRUN_CPUS_PER_TASK:-none}" > "$WORK/cpus"
eval "$DOES"
SRUN
printf '#!/bin/sh\necho "$*" >> "$WORK/scontrol"\n' > "$work/path/scontrol"
chmod +x "$work/path/srun" "$work/path/scontrol"

# says CODE REQUEUED ARGUMENTS…: with $DOES the script ends with CODE, and the job is queued again or not.
says() {
  local code=0 expected=$1 requeued=$2
  shift 2
  rm -f "$work/scontrol" "$work/srun"
  PATH=$work/path:$PATH WORK=$work SLURM_JOB_ID=7 DOES=$DOES bash scripts/slurm/train.sbatch "$@" 2> "$work/err" || code=$?
  [ "$code" = "$expected" ] || fail "code $code, not $expected, of: $DOES: $* ($(cat "$work/err"))"
  if [ "$requeued" = yes ]; then
    [ "$(cat "$work/scontrol" 2>/dev/null)" = "requeue 7" ] || fail "not queued again: $DOES: $*"
  else
    [ ! -e "$work/scontrol" ] || fail "queued again: $DOES: $*"
  fi
}

interrupted="echo '{\"status\": \"interrupted\"}' > '$work/run/status.json'"
finished="echo '{\"status\": \"finished\"}' > '$work/run/status.json'"
for out in "--out $work/run" "--out=$work/run" "-o $work/run" "-o$work/run"; do
  DOES=$interrupted says 0 yes config.toml $out --set train.steps=9
  [ "$(cat "$work/srun")" = "--mpi=pmix --kill-on-bad-exit=1 ./ballast train config.toml $out --set train.steps=9 --resume" ] || fail "$(cat "$work/srun")"
  DOES=$finished says 0 no config.toml $out
done
unset SLURM_CPUS_PER_TASK SRUN_CPUS_PER_TASK
DOES=$finished says 0 no config.toml --out "$work/run"
[ "$(cat "$work/cpus")" = none ] || fail "cores for each task without --cpus-per-task"
SLURM_CPUS_PER_TASK=8 DOES=$finished says 0 no config.toml --out "$work/run"
[ "$(cat "$work/cpus")" = 8 ] || fail "srun is not told of --cpus-per-task"
BALLAST=/other/ballast BALLAST_SRUN="srun --mpi=pmi2" DOES=$finished says 0 no config.toml --out "$work/run"
[ "$(cat "$work/srun")" = "--mpi=pmi2 --kill-on-bad-exit=1 /other/ballast train config.toml --out $work/run --resume" ] ||
  fail "$(cat "$work/srun")"
DOES=$interrupted says 2 no config.toml --set out=x
grep -q -- --out "$work/err" || fail "no word of --out"
DOES="$interrupted; exit 1" says 1 no config.toml --out "$work/run"

# Slurm's warning may come at any moment: what counts is how the run ends.
for pause in 0.3 0 0 0 0 0; do
  DOES="kill -USR1 \$PPID; sleep $pause; $interrupted" says 0 yes config.toml --out "$work/run"
  DOES="kill -USR1 \$PPID; sleep $pause; exit 3" says 3 no config.toml --out "$work/run"
done
for _ in {1..40}; do DOES="kill -USR1 \$PPID" says 0 yes config.toml --out "$work/run"; done

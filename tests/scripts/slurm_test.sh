#!/usr/bin/env bash
# scripts/slurm without a Slurm. train.sbatch: where it finds the run, what it queues again, and the code it ends with. All of
# them, and the other scripts: what they say of missing arguments and programs.
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

# refuses WORDS COMMAND…: ends with 2 and one line with these words.
refuses() {
  local code=0 words=$1
  shift
  PATH=$work/path:$PATH "$@" > "$work/out" 2> "$work/err" || code=$?
  [ "$code" = 2 ] && [ "$(wc -l < "$work/err")" = 1 ] && grep -q -- "$words" "$work/err" ||
    fail "$* ended with $code, not with 2 and \"$words\": $(cat "$work/err")"
}
for script in train sweep prepare; do refuses "usage: sbatch" bash "scripts/slurm/$script.sbatch"; done
refuses "submit it with sbatch" env -u SLURM_JOB_ID bash scripts/slurm/train.sbatch config.toml --out "$work/run"
refuses "no command nosrun" env SLURM_JOB_ID=7 BALLAST_SRUN="nosrun -n 2" bash scripts/slurm/train.sbatch config.toml --out "$work/run"
refuses "--array" env -u SLURM_ARRAY_TASK_ID bash scripts/slurm/sweep.sbatch sweep.toml
refuses "no program /other/ballast" env SLURM_ARRAY_TASK_ID=1 BALLAST=/other/ballast bash scripts/slurm/sweep.sbatch sweep.toml
refuses "no program /other/ballast" env BALLAST=/other/ballast bash scripts/slurm/prepare.sbatch -t tokenizer.json -o x.json x.txt
for script in quickstart_text nvcc_without_spills; do refuses "usage: $script.sh" "scripts/$script.sh"; done
refuses "unknown option --all" scripts/install_packages.sh --all
refuses "reads this file" bash scripts/gpu_libraries.sh
refuses "usage: gpu_tests.sh" scripts/gpu_tests.sh
refuses "where to?" scripts/gpu_check.sh
refuses "no .txt files" scripts/retrieval_model.sh "$work" "$work/out" /bin/true

# The program gets what is behind the script's name.
printf '#!/bin/sh\necho "$*" > "%s/prepared"\n' "$work" > "$work/path/program"
chmod +x "$work/path/program"
PATH=$work/path:$PATH BALLAST=program SLURM_CPUS_PER_TASK=3 bash scripts/slurm/prepare.sbatch -t t.json -o x.json x.txt
[ "$(cat "$work/prepared")" = "data prepare --threads 3 -t t.json -o x.json x.txt" ] || fail "$(cat "$work/prepared")"

# Slurm's warning may come at any moment: what counts is how the run ends.
for pause in 0.3 0 0 0 0 0; do
  DOES="kill -USR1 \$PPID; sleep $pause; $interrupted" says 0 yes config.toml --out "$work/run"
  DOES="kill -USR1 \$PPID; sleep $pause; exit 3" says 3 no config.toml --out "$work/run"
done
for _ in {1..40}; do DOES="kill -USR1 \$PPID" says 0 yes config.toml --out "$work/run"; done

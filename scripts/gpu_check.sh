#!/usr/bin/env bash
# Proves and measures the CUDA backend on a GPU, in two parts of a few minutes, on a machine that may be gone at any moment.
#
#   scripts/gpu_check.sh OUT [--part 1|2] [--seconds N] [--only STAGE,…] [--archive FILE] [--bundle DIR] [--smoke] [--plan]
#
#   OUT             gets part-1/ and part-2/ (stages, logs, figures as soon as they are known), results.json, results.md, losses.svg
#   --part 1        wrappers against the executor, every test of the ops, attention on wgmma and beside mma.sync, the ops' and
#                   attention's figures
#   --part 2        models and training: tests, repeatability, parity with the CPU, training steps, cuDNN's attention, PyTorch's
#                   steps; with the time that is left compute-sanitizer and the ablation. Default: both parts
#   --seconds N     for everything; default 220 for part 1, 310 for part 2
#   --only STAGES   these alone; what OUT has of the others stays
#   --archive FILE  all of OUT in one file, made anew after every stage; default OUT.tar.gz
#   --bundle DIR    made by scripts/gpu_bundle.sh; default: the one this script lies in, else build/gpu-bundle (made if need be)
#   --smoke         every stage in miniature on the executor instead of a GPU, from a bundle of --preset simt; measures nothing
#   --plan          print the stages and their limits, and end
#
# Each stage has a limit and a log, and tests and groups of wrappers have processes of their own: what fails does not stop the
# others. After a kill at any moment `gpu_report.py write OUT` makes the report of what is there; so it does of two parts that ran
# on two machines, once their folders are in one OUT.
#
# Exit code: 0 all proofs hold, 1 one failed or could not be finished, 2 no usable GPU or wrong arguments.
set -euo pipefail

usage() { sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; }
fail() { echo "gpu_check: $*" >&2; exit 2; }

out="" bundle="" archive="" smoke=0 part="" seconds="" only="" plan_alone=0
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --bundle|--part|--seconds|--only|--archive) [ $# -ge 2 ] || fail "$1 needs a value" ;;&
    --bundle) bundle=$2; shift ;;
    --part) part=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --only) only=$2; shift ;;
    --archive) archive=$2; shift ;;
    --smoke) smoke=1 ;;
    --plan) plan_alone=1 ;;
    -*) fail "unknown option $1; see gpu_check.sh --help" ;;
    *) [ -z "$out" ] || fail "one output folder only, got $out and $1"; out=$1 ;;
  esac
  shift
done
[ -n "$out" ] || fail "where to? gpu_check.sh OUT"
case "$part" in ""|1|2) ;; *) fail "--part is 1 or 2, not $part" ;; esac
case "${seconds:-1}" in *[!0-9]*) fail "--seconds is a whole number, not $seconds" ;; esac
case "$part" in 1) : "${seconds:=220}" ;; 2) : "${seconds:=310}" ;; *) : "${seconds:=530}" ;; esac
started=$(date +%s)
deadline=$((started + seconds - 3))   # the report takes the rest

here=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
if [ -z "$bundle" ]; then
  if [ -e "$here/bundle.json" ]; then bundle=$here; else
    bundle=$here/build/gpu-bundle
    [ -e "$bundle/bundle.json" ] || "$here/scripts/gpu_bundle.sh" --out "$bundle"
  fi
fi
[ -e "$bundle/bundle.json" ] || fail "$bundle is no bundle; make one with scripts/gpu_bundle.sh"
bundle=$(cd "$bundle" && pwd)
grep -q '"preset": "simt"' "$bundle/bundle.json" && preset=simt || preset=cuda
if [ "$smoke" = 1 ]; then [ "$preset" = simt ] || fail "--smoke needs a bundle made with --preset simt"
else [ "$preset" = cuda ] || fail "this bundle is for --smoke; make one without --preset simt"; fi

# shellcheck source=scripts/gpu_libraries.sh
. "$bundle/scripts/gpu_libraries.sh"

# ---- the plan -------------------------------------------------------------------------------------------------------

names=() parts=() kinds=() needs=() limits=() reasons=() commands=()
# stage PART NAME KIND NEED LIMIT COMMAND…: runs at most LIMIT seconds, and not at all where fewer than NEED are left.
# Kinds: proof; extra, a proof for which there may be no time; measure. A part's proofs and measures have time for all their
# limits together.
stage() {
  [ -z "$part" ] || [ "$part" = "$1" ] || return 0
  case ",$only," in ,,|*",$2,"*) ;; *) return 0 ;; esac
  parts+=("$1") names+=("$2") kinds+=("$3") needs+=("$4") limits+=("$5")
  shift 5
  commands+=("$*") reasons+=("")
}
# unless REASON stage …: the stage is planned, and skipped where there is a reason.
unless() {
  local reason=$1 before=${#names[@]}
  shift
  "$@"
  [ "${#names[@]}" = "$before" ] || reasons[before]=$reason
}
no_python="" no_torch="" no_cudnn="" no_sanitizer=""
command -v python3 >/dev/null || no_python="python3 is not on the PATH"
if [ -n "$no_python" ]; then no_torch=$no_python
elif ! python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null; then no_torch="python3 has no torch"; fi
if [ ! -x "$bundle/bin/bench_cudnn_attention" ]; then no_cudnn="this bundle was made without cuDNN's front end"
elif [ "$has_cudnn" = 0 ]; then no_cudnn="libcudnn.so.9 or libnvrtc.so.13 was not found"; fi
command -v compute-sanitizer >/dev/null || no_sanitizer="compute-sanitizer is not on the PATH"

stage 1 machine measure 1 10 machine
stage 1 conformance-small proof 2 20 conformance_small
stage 1 conformance proof 5 40 conformance
stage 1 tests-kernels proof 5 50 tests_of kernels
stage 1 tests-attention-wgmma proof 5 25 tests_of attention
stage 1 attention-wgmma-mma proof 2 10 wgmma_beside_mma
stage 1 attention measure 5 35 bench_ops attention
stage 1 ops measure 5 25 bench_ops ops

stage 2 machine measure 1 10 machine
for room in model infer train eval; do stage 2 "tests-$room" proof 3 20 tests_of "$room"; done
unless "$no_python" stage 2 repeatability proof 5 15 repeatability
unless "$no_python" stage 2 parity proof 5 40 parity
for batch in 8 16 32 64; do stage 2 "step-$batch" measure 5 15 train_step "$batch"; done
unless "$no_cudnn" stage 2 attention-cudnn measure 8 30 cudnn_attention
unless "$no_torch" stage 2 pytorch measure 20 70 pytorch
unless "$no_sanitizer" stage 2 sanitizer-memcheck extra 10 40 sanitizer memcheck
stage 2 ablation extra 20 60 ablation
for tool in racecheck synccheck; do unless "$no_sanitizer" stage 2 "sanitizer-$tool" extra 10 40 sanitizer "$tool"; done
[ "${#names[@]}" -gt 0 ] || fail "no stage of ${only}${part:+ in part $part}; --plan lists them"

echo "$seconds s for:"
for i in "${!names[@]}"; do
  printf '  part %s  %-22s %-8s at most %3s s  %s\n' "${parts[i]}" "${names[i]}" "${kinds[i]}" "${limits[i]}" "${reasons[i]:+skipped: ${reasons[i]}}"
done
[ "$plan_alone" = 0 ] || exit 0

# ---- the GPU, and where results go ----------------------------------------------------------------------------------

backend=$preset
if missing=$(missing_libraries "$bundle/bin/ballast") && [ -n "$missing" ]; then fail "the executables do not start here: $missing"; fi
obstacle=$("$bundle/bin/ballast" info | sed -n "s/.* $backend (not usable here): //p")
[ -z "$obstacle" ] || fail "no usable GPU: ${obstacle%%;*}"

mkdir -p "$out"
out=$(cd "$out" && pwd)
archive=$(realpath -m "${archive:-$out.tar.gz}")
work=$out/work
rm -rf "$work"
mkdir -p "$work"
for p in ${part:-1 2}; do
  [ -n "$only" ] || rm -rf "$out/part-$p"
  mkdir -p "$out/part-$p/logs"
done
for i in "${!names[@]}"; do printf '%s\t%s\n' "${names[i]}" "${kinds[i]}" >> "$out/part-${parts[i]}/plan.tsv"; done
cd "$bundle"
bundle_results() {   # the archive is there at any moment, whole
  tar -C "$(dirname "$out")" --exclude="$(basename "$out")/work" --exclude='*.h5' -czf "$archive.new" "$(basename "$out")" && mv "$archive.new" "$archive"
}
finish() {
  if [ -z "$no_python" ]; then python3 scripts/gpu_report.py write "$out" || failed=1
  else echo "gpu_check: python3 is not on the PATH: the figures stay in $out; gpu_report.py write OUT makes the report elsewhere" >&2; fi
  bundle_results || failed=1
}

# ---- what the stages run --------------------------------------------------------------------------------------------
# Each is a bash of its own in the bundle's folder. $to is its part's folder; $until the second by which it should end by itself.

left() { local s=$((until - $(date +%s))); echo "$((s > 1 ? s : 1))"; }

machine() {
  cat bundle.json
  bin/ballast info
  if command -v nvidia-smi >/dev/null; then nvidia-smi; fi
  echo "cuBLASLt found: $has_cublas, cuDNN found: $has_cudnn, NCCL found: $has_nccl, LD_LIBRARY_PATH: $LD_LIBRARY_PATH"
  if command -v python3 >/dev/null; then python3 --version; fi
}

compare_conformance() {   # FILE…; the files of a device that differs are kept
  local code=0
  bin/simt_conformance --compare data/executor.txt "$@" || code=$?
  [ "$code" = 0 ] || cat "$@" | gzip > "$to/conformance-device.txt.gz"
  return "$code"
}

conformance_small() {
  timeout --foreground "$(left)" bin/simt_conformance --small "$work/small.txt" || echo "ended with $?"
  compare_conformance "$work/small.txt"
}

# A group goes on with its file after a trap or a hang, without the record that ended it.
conformance_group() {
  local code=0
  for _ in 1 2 3 4 5 6; do
    [ "$(date +%s)" -lt "$until" ] || break
    code=0
    timeout --foreground --kill-after=2 12 bin/simt_conformance --group "$1" "$work/group-$1.txt" || code=$?
    [ "$code" != 0 ] || break
    echo "group $1: ended with $code"
  done
}
conformance() {
  rm -f "$work"/group-*.txt
  bin/simt_conformance --groups | xargs -P "$jobs" -I '{}' bash -c 'conformance_group "$1"' - '{}'
  compare_conformance "$work"/group-*.txt
}

tests_of() {   # ROOM: every test that runs on a device, on this one
  local program=$1 those="" each=40
  case "$1" in
    kernels) export BALLAST_TEST_ATTENTION=mma ;;
    attention) program=kernels those='attention*'; export BALLAST_TEST_ATTENTION=wgmma ;;
  esac
  if [ "$smoke" = 1 ]; then
    each=6
    case "$1" in
      kernels) those='add: two or*,copy: any*' ;;
      attention) those='attention: rows that see nothing*' ;;
      model) those='bf16 and fp16 follow f32' ;;
      *) those='policies that differ*,the optimiser changes nothing*,sink metrics*' ;;
    esac
  fi
  BALLAST_TEST_DEVICE=$backend BALLAST_TEST_SOURCES=$bundle scripts/gpu_tests.sh "bin/test_$program" "$to/tests" \
    --name "$1" --filter "~[cpu]~[not_cuda]$those" --jobs "$jobs" --each "$each" --until "$until"
}

# What a GPU tries before its first attention, and whether attention runs on wgmma then.
wgmma_beside_mma() {
  BALLAST_TEST_DEVICE=$backend bin/test_kernels 'attention: what runs by default*' > "$work/wgmma.log" 2>&1 || true
  cat "$work/wgmma.log"
  grep -q '^All tests passed' "$work/wgmma.log"   # a name that matches no test passes, too
}

sanitizer() {   # TOOL: on every wrapper of sm_80 and a few ops
  sanitize "$1" bin/simt_conformance --small "$work/sanitized.txt"
  BALLAST_TEST_DEVICE=$backend sanitize "$1" bin/test_kernels \
    'attention: strided views,embedding: rows by id*,layernorm: against the oracle*,add: two or*,qkv_split_rope: every layout*'
}
sanitize() {
  local code=0 log tool=$1
  log=$work/sanitizer-$tool.log
  shift
  compute-sanitizer --tool "$tool" --error-exitcode 9 "$@" > "$log" 2>&1 || code=$?
  cat "$log"
  if grep -q 'Device not supported' "$log"; then echo "compute-sanitizer does not support this device"; exit 77; fi
  return "$code"
}

# A small real run: configs/pythia/14m at 256 tokens. `small_run NAME BACKEND DTYPE STEPS` leaves work/NAME/metrics.jsonl.
small_run() {
  local sets=(--set data.train=data/train.h5 --set data.validation= --set data.tokenizer=data/tokenizer.json
    --set model.vocab_size=8192 --set train.sequence_length=256 --set train.global_batch=4 --set train.micro_batch=2
    --set "train.dtype=$3" --set "train.steps=$4" --set optimizer.warmup=0.2 --set checkpoint.every=0
    --set checkpoint.log_spaced=false --set sample.every=0)
  [ "$smoke" = 0 ] || sets+=(--set model.num_layers=1 --set model.hidden_size=32 --set model.num_heads=2
    --set model.vocab_size=512 --set train.sequence_length=32)
  rm -rf "${work:?}/$1"
  bin/ballast train configs/pythia/14m.toml "${sets[@]}" --backend "$2" --out "$work/$1"
}

parity() {
  [ "$smoke" = 1 ] || bin/test_train 'twenty steps on the GPU backend*'
  for dtype in f32 bf16; do
    small_run "cpu-$dtype" cpu "$dtype" "$steps"
    small_run "gpu-$dtype" "$backend" "$dtype" "$steps"
  done
  python3 scripts/gpu_report.py compare "$work/cpu-f32" "$work/gpu-f32" --tolerance 1e-4
  python3 scripts/gpu_report.py compare "$work/cpu-bf16" "$work/gpu-bf16" --tolerance 1e-2
}

repeatability() {
  for run in first second; do small_run "$run" "$backend" bf16 "$steps"; done
  python3 scripts/gpu_report.py compare "$work/first" "$work/second" --tolerance 0
}

ablation() {
  local sets=(--set data.train=data/train.h5 --set data.validation=data/heldout.h5
    --set data.tokenizer=data/tokenizer.json --set model.vocab_size=8320 --set train.global_batch=8 --set train.micro_batch=8
    --set train.sequence_length=1024 --set train.steps=300 --set optimizer.warmup=0.1 --set checkpoint.every=0
    --set checkpoint.log_spaced=false --set sample.every=0 --set validation.every=100 --set validation.batches=2)
  [ "$smoke" = 0 ] || sets+=(--set model.num_layers=1 --set model.hidden_size=32 --set model.num_heads=2
    --set model.vocab_size=640 --set train.sequence_length=32 --set train.global_batch=2 --set train.micro_batch=2
    --set train.steps=4 --set validation.every=2)
  for arm in vanilla zero_sink sink_token; do
    rm -rf "$to/ablation/$arm"
    bin/ballast train "configs/ablation/$arm.toml" "${sets[@]}" --set train.log_every=25 --backend "$backend" \
      --out "$to/ablation/$arm"
    find "$to/ablation/$arm" -mindepth 1 ! -name metrics.jsonl -delete   # gigabytes that nobody reads
  done
}

tiny() { [ "$smoke" = 0 ] || echo --smoke; }
bench_ops() {   # ops|attention
  bin/bench_ops --backend "$backend" --only "$1" --budget "$(($(left) - 2))" --seconds 0.05 --json "$to/$1.raw.json" $(tiny)
}
train_step() {   # BATCH
  local length=2048 batch=$1
  [ "$smoke" = 0 ] || { length=32 batch=2; }
  bin/bench_train_step --shape pythia-160m --dtype bf16 --batch "$batch" --seq "$length" --backend "$backend" --seconds 4 \
    --json "$to/step-$1.raw.json" $(tiny)
}
cudnn_attention() { bin/bench_cudnn_attention --budget "$(($(left) - 5))" --seconds 0.05 --json "$to/cudnn.raw.json"; }
pytorch() { python3 scripts/pytorch_baseline.py --batches 16,8 --budget "$(left)" --json "$to/pytorch.raw.json" $(tiny); }

export -f left machine compare_conformance conformance_small conformance_group conformance tests_of wgmma_beside_mma sanitizer
export -f sanitize small_run
export -f parity repeatability ablation tiny bench_ops train_step cudnn_attention pytorch
steps=$([ "$smoke" = 1 ] && echo 3 || echo 30)
cores=$(nproc)
jobs=$((cores > 12 ? 12 : cores))
export bundle backend smoke work steps jobs has_cublas has_cudnn has_nccl

# ---- the walk -------------------------------------------------------------------------------------------------------

failed=0
# record I STATUS SECONDS DETAIL: one line, at once; a later line of the same stage counts instead.
record() {
  printf '%s\t%s\t%s\t%s\t%s\n' "${names[$1]}" "${kinds[$1]}" "$2" "$3" "$4" >> "$out/part-${parts[$1]}/stages.tsv"
  [ "$2" = running ] || printf '%-22s %-8s %4s s  %s\n' "${names[$1]}" "$2" "$3" "$4"
}
run_stage() {   # I
  local i=$1 begin seconds status=ok detail="" code=0 log
  begin=$(date +%s)
  if [ -n "${reasons[i]}" ]; then record "$i" skipped 0 "${reasons[i]}"; return 0; fi
  seconds=$((deadline - begin < limits[i] ? deadline - begin : limits[i]))
  if [ "$seconds" -lt "${needs[i]}" ]; then
    [ "${kinds[i]}" != proof ] || failed=1
    record "$i" left-out 0 "no time was left"
    return 0
  fi
  record "$i" running 0 ""
  export to=$out/part-${parts[i]} until=$((begin + seconds - (seconds > 12 ? 4 : 1)))
  log=$to/logs/${names[i]}.log
  # In the background, because bash looks at signals only between commands, and while it waits.
  # shellcheck disable=SC2086
  timeout --kill-after=3 "$seconds" bash -c 'set -euo pipefail; "$@"' - ${commands[i]} > "$log" 2>&1 &
  running=$!
  wait "$running" || code=$?
  running=""
  if [ "$code" != 0 ]; then detail=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 | tr '\t' ' ' | cut -c1-160 || true); fi
  case $code in
    0) ;;
    77) status=skipped ;;
    124|137) status=timeout detail="stopped after $seconds s" ;;
    *) status=failed detail="exit code $code: $detail" ;;
  esac
  case "$status,${kinds[i]}" in ok,*|skipped,*|*,measure) ;; *) failed=1 ;; esac
  record "$i" "$status" "$(($(date +%s) - begin))" "$detail"
}

running=""
interrupted() {
  failed=1
  if [ -n "$running" ]; then kill "$running" 2>/dev/null || true; wait "$running" || true; fi
  finish
  exit 1
}
trap interrupted INT TERM
for i in "${!names[@]}"; do
  run_stage "$i"
  bundle_results
done
finish
rm -rf "$work"
echo "$(($(date +%s) - started)) s in all; $archive"
exit "$failed"

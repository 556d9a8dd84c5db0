#!/usr/bin/env bash
# Proves and measures the CUDA backend on a GPU: one command, at most ten minutes on one H100 or H200.
#
#   scripts/gpu_check.sh OUT [--bundle DIR] [--smoke]
#
#   OUT            gets results.json, results.md, losses.svg and logs/; what to keep goes to docs/results/gpu/DATE-GPU/
#   --bundle DIR   made by scripts/gpu_bundle.sh; default: the one this script lies in, else build/gpu-bundle (made if need be)
#   --smoke        every stage in miniature on the executor instead of a GPU, from a bundle of --preset simt; measures nothing
#
# Stages that prove something: the wrappers against the executor, every kernel test on the device, compute-sanitizer, training
# against the CPU, bitwise repeatability, the ablation. Stages that measure: ops beside the limits, attention beside cuDNN's
# and PyTorch's, whole training steps beside PyTorch's. A stage that fails does not stop the others.
#
# Exit code: 0 all proofs hold, 1 one failed or could not be finished, 2 no usable GPU or wrong arguments.
set -euo pipefail

usage() { sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; }
fail() { echo "gpu_check: $*" >&2; exit 2; }

out="" bundle="" smoke=0
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --bundle) [ $# -ge 2 ] || fail "--bundle needs a folder"; bundle=$2; shift ;;
    --smoke) smoke=1 ;;
    -*) fail "unknown option $1; see gpu_check.sh --help" ;;
    *) [ -z "$out" ] || fail "one output folder only, got $out and $1"; out=$1 ;;
  esac
  shift
done
[ -n "$out" ] || fail "where to? gpu_check.sh OUT"

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

# ---- libraries: the path, the toolkit, or Python's wheels -----------------------------------------------------------

cuda_folders() {
  tr ':' '\n' <<< "${LD_LIBRARY_PATH:-}"
  ls -d "${CUDA_HOME:-/usr/local/cuda}"/lib64 "${CUDA_HOME:-/usr/local/cuda}"/lib /usr/local/cuda*/lib64 2>/dev/null || true
  if command -v nvcc >/dev/null; then ls -d "$(dirname "$(readlink -f "$(command -v nvcc)")")"/../lib64 2>/dev/null || true; fi
  if command -v python3 >/dev/null; then
    python3 - <<'PYTHON' 2>/dev/null || true
import glob, site, sys, sysconfig
roots = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path, *getattr(site, "getsitepackages", list)()}
for root in sorted(r for r in roots if r):
    for folder in sorted(glob.glob(root + "/nvidia/*/lib")):
        print(folder)
PYTHON
  fi
}
library_path=""
find_library() {   # 0 when the loader will find it, with what it needs
  local folder
  if ldconfig -p 2>/dev/null | grep -q "$1"; then return 0; fi
  while IFS= read -r folder; do
    if [ -n "$folder" ] && [ -e "$folder/$1" ]; then
      case ":$library_path:" in *":$folder:"*) ;; *) library_path+=${library_path:+:}$folder ;; esac
      return 0
    fi
  done <<< "$folders"
  return 1
}
folders=$(cuda_folders)
has_cublas=1 has_cudnn=1 has_nccl=1
find_library libcublasLt.so.13 || has_cublas=0
find_library libcudnn.so.9 || has_cudnn=0
find_library libnccl.so.2 || has_nccl=0
find_library libnvrtc.so.13 || has_cudnn=0   # cuDNN's front end links it
if [ "$preset" = cuda ] && [ "$has_cublas" = 0 ]; then
  fail "libcublasLt.so.13 is not on LD_LIBRARY_PATH, in /usr/local/cuda or in Python's wheels (nvidia-cublas)"
fi
export LD_LIBRARY_PATH=$library_path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
missing() { ldd "$1" 2>&1 | grep -E 'not found' || true; }
if missing "$bundle/bin/ballast" | grep -qE 'libstdc|libgcc|GLIBCXX|CXXABI'; then
  LD_LIBRARY_PATH+=:$bundle/lib-fallback
fi
if [ -n "$(missing "$bundle/bin/ballast")" ]; then
  fail "the executables do not start here: $(missing "$bundle/bin/ballast" | head -n 2 | tr -s ' \t\n' ' ')"
fi

# ---- the GPU --------------------------------------------------------------------------------------------------------

backend=$preset
obstacle=$("$bundle/bin/ballast" info | sed -n "s/.* $backend (not usable here): //p")
[ -z "$obstacle" ] || fail "no usable GPU: ${obstacle%%;*}"

mkdir -p "$out/logs"
out=$(cd "$out" && pwd)
rm -rf "$out"/{work,stages.tsv,results.json,results.md,losses.svg,*.raw.json} "$out"/logs/*
work=$out/work
mkdir -p "$work"
cd "$bundle"

# ---- stages ---------------------------------------------------------------------------------------------------------

started=$(date +%s)
allowed=$([ "$smoke" = 1 ] && echo 300 || echo 600)
failed=0
record() { printf '%s\t%s\t%s\t%s\t%s\n' "$@" >> "$out/stages.tsv"; printf '%-28s %-8s %4s s  %s\n' "$1" "$3" "$4" "$5"; }
skip() { record "$1" "$2" skipped 0 "$3"; }   # NAME proof|measure REASON

# stage NAME proof|measure SECONDS COMMAND…: runs it with its own log, for at most so long and no longer than all may take.
stage() {
  local name=$1 kind=$2 seconds=$3 begin status=ok detail="" code=0
  shift 3
  begin=$(date +%s)
  local left=$((allowed - (begin - started)))
  [ "$left" -lt "$seconds" ] && seconds=$left
  if [ "$seconds" -le 0 ]; then
    status=left-out detail="no time was left"
    [ "$kind" = measure ] || failed=1
    record "$name" "$kind" "$status" 0 "$detail"
    return 0
  fi
  timeout --kill-after=5 "$seconds" "$@" > "$out/logs/$name.log" 2>&1 || code=$?
  case $code in
    0) ;;
    124|137) status=timeout detail="stopped after $seconds s" ;;
    *) status=failed detail="exit code $code: $(grep -v '^[[:space:]]*$' "$out/logs/$name.log" | tail -n 1 | tr '\t' ' ' | cut -c1-160)" ;;
  esac
  [ "$status" = ok ] || [ "$kind" = measure ] || failed=1
  record "$name" "$kind" "$status" "$(($(date +%s) - begin))" "$detail"
}

machine() {
  cat bundle.json
  bin/ballast info
  if command -v nvidia-smi >/dev/null; then nvidia-smi; fi
  echo "cuDNN found: $has_cudnn, NCCL found: $has_nccl, LD_LIBRARY_PATH: $LD_LIBRARY_PATH"
  if command -v python3 >/dev/null; then python3 --version; fi
}

conformance() {
  bin/simt_conformance "$work/device.txt"
  bin/simt_conformance --compare data/executor.txt "$work/device.txt"
}

tests_of() {   # ROOM: every test that runs on a device, on this one
  local filter='~[cpu]~[not_cuda]'
  if [ "$smoke" = 1 ]; then
    case "$1" in kernels) filter='add*' ;; model) filter='bf16 follows f32' ;; *) filter='policies that differ*,the optimiser changes nothing*,sink metrics*' ;; esac
  fi
  BALLAST_TEST_DEVICE=$backend BALLAST_TEST_SOURCES=$bundle bin/"test_$1" "$filter"
}

sanitizer() {   # TOOL: on every wrapper of sm_80 and a few ops
  compute-sanitizer --tool "$1" --error-exitcode 9 bin/simt_conformance --small "$work/sanitized.txt"
  BALLAST_TEST_DEVICE=$backend compute-sanitizer --tool "$1" --error-exitcode 9 bin/test_kernels \
    'attention: strided views,embedding: rows by id*,layernorm: against the oracle*,add: two or*,qkv_split_rope: head-major*'
}

# A small real run: configs/pythia/14m at 256 tokens. `small_run NAME BACKEND DTYPE STEPS` leaves work/NAME/metrics.jsonl.
small_run() {
  local sets=(--set data.train=data/train.h5 --set data.validation= --set data.tokenizer=data/tokenizer.json
    --set model.vocab_size=8192 --set train.sequence_length=256 --set train.global_batch=4 --set train.micro_batch=2
    --set "train.dtype=$3" --set "train.steps=$4" --set optimizer.warmup=0.2 --set checkpoint.every=0
    --set checkpoint.log_spaced=false --set sample.every=0)
  [ "$smoke" = 0 ] || sets+=(--set model.num_layers=1 --set model.hidden_size=32 --set model.num_heads=2
    --set model.vocab_size=512 --set train.sequence_length=32)
  bin/ballast train configs/pythia/14m.toml "${sets[@]}" --backend "$2" --out "$work/$1"
}
steps=$([ "$smoke" = 1 ] && echo 3 || echo 30)

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
  local arms="vanilla zero_sink sink_token" sets=(--set data.train=data/train.h5 --set data.validation=data/heldout.h5
    --set data.tokenizer=data/tokenizer.json --set model.vocab_size=8320 --set train.global_batch=8 --set train.micro_batch=8
    --set train.sequence_length=1024 --set train.steps=300 --set optimizer.warmup=0.1 --set checkpoint.every=0
    --set checkpoint.log_spaced=false --set sample.every=0 --set validation.every=100 --set validation.batches=2)
  [ "$smoke" = 0 ] || sets+=(--set model.num_layers=1 --set model.hidden_size=32 --set model.num_heads=2
    --set model.vocab_size=640 --set train.sequence_length=32 --set train.global_batch=2 --set train.micro_batch=2
    --set train.steps=4 --set validation.every=2)
  for arm in $arms; do
    bin/ballast train "configs/ablation/$arm.toml" "${sets[@]}" --set train.log_every=25 --backend "$backend" --out "$work/$arm"
    rm -rf "$work/$arm"/checkpoint* "$work/$arm"/*.h5   # gigabytes that nobody reads
  done
}

tiny=() ; [ "$smoke" = 0 ] || tiny=(--smoke)
bench_ops() { bin/bench_ops --backend "$backend" --only "$1" --budget "$2" --seconds 0.1 --json "$out/$1.raw.json" "${tiny[@]}"; }
train_step() {
  local length=2048 batch=$1
  [ "$smoke" = 0 ] || { length=32 batch=2; }
  bin/bench_train_step --shape pythia-160m --dtype bf16 --batch "$batch" --seq "$length" --backend "$backend" --seconds 6 \
    --json "$out/step-$1.raw.json" "${tiny[@]}"
}
export -f machine conformance tests_of sanitizer small_run parity repeatability ablation bench_ops train_step
export bundle backend smoke work out steps has_cudnn has_nccl
run() { local name=$1 kind=$2 seconds=$3; shift 3; stage "$name" "$kind" "$seconds" bash -c 'set -euo pipefail; tiny=(); [ "$smoke" = 0 ] || tiny=(--smoke); "$@"' - "$@"; }

run machine measure 20 machine
run conformance proof 40 conformance
for room in kernels model infer train eval; do run "tests-$room" proof 90 tests_of "$room"; done
for tool in memcheck racecheck synccheck; do
  if [ "$smoke" = 1 ]; then skip "sanitizer-$tool" proof "there is no GPU to check on"
  elif command -v compute-sanitizer >/dev/null; then run "sanitizer-$tool" proof 40 sanitizer "$tool"
  else skip "sanitizer-$tool" proof "compute-sanitizer is not on the PATH"; fi
done
if command -v python3 >/dev/null; then
  run parity proof 60 parity
  run repeatability proof 30 repeatability
else
  for name in parity repeatability; do skip "$name" proof "python3 is not on the PATH"; done
fi
run ops measure 50 bench_ops ops 40
run attention measure 50 bench_ops attention 40
if [ ! -x bin/bench_cudnn_attention ]; then skip attention-cudnn measure "this bundle was made without cuDNN's front end"
elif [ "$has_cudnn" = 0 ]; then skip attention-cudnn measure "libcudnn.so.9 was not found"
else run attention-cudnn measure 50 bin/bench_cudnn_attention --budget 35 --seconds 0.1 --json "$out/cudnn.raw.json"; fi
for batch in 16 8 32 64; do run "step-$batch" measure 30 train_step "$batch"; done
run ablation proof 150 ablation
if command -v python3 >/dev/null && python3 -c 'import torch' 2>/dev/null; then
  run pytorch measure 110 python3 scripts/pytorch_baseline.py --batches 16,8,32,64 --budget 95 --json "$out/pytorch.raw.json" "${tiny[@]}"
else skip pytorch measure "python3 has no torch"; fi

for name in vanilla zero_sink sink_token; do
  [ ! -e "$work/$name/metrics.jsonl" ] || cp "$work/$name/metrics.jsonl" "$out/ablation-$name.jsonl"
done
if command -v python3 >/dev/null; then
  python3 scripts/gpu_report.py write "$out" || failed=1
else
  echo "gpu_check: python3 is not on the PATH: the figures stay in $out/*.raw.json" >&2
fi
rm -rf "$work"
echo "$(($(date +%s) - started)) s in all; $out"
exit "$failed"

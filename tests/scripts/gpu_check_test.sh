#!/usr/bin/env bash
# scripts/gpu_check.sh in miniature, from bundle to report: a sound one, one whose proof fails, and what it refuses. About half a
# minute once built.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v python3 >/dev/null; then
  echo "gpu_check_test: skipped, python3 is not on the PATH"
  exit 0
fi
fail() { echo "gpu_check_test: $*" >&2; exit 1; }
work=build/gpu-check-test
bundle=$work/bundle
rm -rf "$work"
mkdir -p "$work"

python3 tests/scripts/gpu_report_test.py "$PWD" 2> "$work/report.log" || { cat "$work/report.log"; fail "the report writer"; }
scripts/gpu_bundle.sh --preset simt --small --out "$bundle" > "$work/bundle.log" 2>&1 || { tail "$work/bundle.log"; fail "no bundle"; }

# Its programs start with nothing around them, and bring every library but the C library, the compiler's and CUDA's.
foreign=$(env -i ldd "$bundle"/bin/* | awk '$2 == "=>" {print $1, $3}' | sort -u | grep -v -e "/$bundle/" \
  -e '^lib\(c\|m\|dl\|rt\|pthread\|resolv\|stdc++\|gcc_s\)\.so' -e '^lib\(cuda\|cublas\|cudnn\|nvrtc\|nccl\)' || true)
[ -z "$foreign" ] || fail "the bundle lacks $foreign"
env -i "$bundle/bin/ballast" info > /dev/null
env -i "$bundle/bin/bench_ops" --help > /dev/null

code() { local status=0; "$@" > "$work/out.log" 2>&1 || status=$?; echo "$status"; }
expect() {   # CODE TEXT COMMAND…
  local wanted=$1 text=$2 got
  shift 2
  got=$(code "$@")
  [ "$got" = "$wanted" ] && grep -q -- "$text" "$work/out.log" ||
    { cat "$work/out.log"; fail "$* ended with $got, not $wanted and \"$text\""; }
}
expect 0 "results.md" "$bundle/gpu_check.sh" "$work/sound" --smoke
grep -q "Every proof that ran holds" "$work/sound/results.md" || fail "the report does not say that all is well"
[ -s "$work/sound/losses.svg" ] || fail "no loss curves"
python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); assert len(r["steps"]) == 4 and len(r["ablation"]) == 3 and r["ops"]' \
  "$work/sound/results.json" || fail "figures are missing from results.json"

sed -i '/^warps: named barriers/{n;s/^........ /deadbeef /}' "$bundle/data/executor.txt"   # the machines disagree …
rm "$bundle/bin/bench_train_step"                                                   # … and a benchmark does not run
expect 1 "conformance *failed" "$bundle/gpu_check.sh" "$work/broken" --smoke
grep -q "Failed proofs: conformance\." "$work/broken/results.md" || fail "the report does not name the failed proof"
grep -q "step-8 | measure | \*\*failed" "$work/broken/results.md" || fail "the report does not name the failed benchmark"
grep -q "| ablation | proof | ok" "$work/broken/results.md" || fail "a failed stage stopped the others"

expect 2 "is no bundle" scripts/gpu_check.sh "$work/none" --bundle "$work"
expect 2 "is for --smoke" "$bundle/gpu_check.sh" "$work/none"
expect 2 "unknown option" scripts/gpu_check.sh "$work/none" --fast
expect 0 "Exit code" scripts/gpu_check.sh --help
expect 0 "--preset" scripts/gpu_bundle.sh --help
echo "gpu_check_test: passed"

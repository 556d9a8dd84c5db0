#!/usr/bin/env bash
# scripts/gpu_check.sh in miniature, from bundle to report: both parts sound, kills at every stage, what fails, and what it refuses.
# About a minute once built.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v python3 >/dev/null; then
  echo "gpu_check_test: skipped, python3 is not on the PATH"
  exit 0
fi
fail() { echo "gpu_check_test: $*" >&2; exit 1; }
work=$PWD/build/gpu-check-test
bundle=$work/bundle
rm -rf "$work"
mkdir -p "$work/path"

python3 tests/scripts/gpu_report_test.py "$PWD" 2> "$work/report.log" || { cat "$work/report.log"; fail "the report writer"; }
scripts/gpu_bundle.sh --preset simt --small --out "$bundle" > "$work/bundle.log" 2>&1 || { tail "$work/bundle.log"; fail "no bundle"; }

# Its programs start with nothing around them, and bring every library but the C library, the compiler's and CUDA's.
foreign=$(env -i ldd "$bundle"/bin/* | awk '$2 == "=>" {print $1, $3}' | sort -u | grep -v -e "$bundle/" \
  -e '^lib\(c\|m\|dl\|rt\|pthread\|resolv\|stdc++\|gcc_s\)\.so' -e '^lib\(cuda\|cublas\|cudnn\|nvrtc\|nccl\)' || true)
[ -z "$foreign" ] || fail "the bundle lacks $foreign"
env -i "$bundle/bin/ballast" info > /dev/null
env -i "$bundle/bin/bench_ops" --help > /dev/null

# A sanitizer that does not know the device.
printf '#!/bin/sh\necho "========= Error: Device not supported. Please refer to the manual"\nexit 1\n' > "$work/path/compute-sanitizer"
chmod +x "$work/path/compute-sanitizer"
export PATH=$work/path:$PATH

code() { local status=0; "$@" > "$work/out.log" 2>&1 || status=$?; echo "$status"; }
expect() {   # CODE TEXT COMMAND…
  local wanted=$1 text=$2 got
  shift 2
  got=$(code "$@")
  [ "$got" = "$wanted" ] && grep -q -- "$text" "$work/out.log" ||
    { cat "$work/out.log"; fail "$* ended with $got, not $wanted and \"$text\""; }
}
says() { grep -q -- "$2" "$1/results.md" || { cat "$1/results.md"; fail "the report of $1 does not say \"$2\""; }; }
holds() {   # OUT CONDITION on r, the results
  python3 -c 'import json, sys; r = json.load(open(sys.argv[1] + "/results.json")); sys.exit(not eval(sys.argv[2]))' "$1" "$2" ||
    fail "not so in $1/results.json: $2"
}

# ---- time for every proof and measure, whatever the others take ----

for part in 1 2; do
  "$bundle/gpu_check.sh" "$work/none" --smoke --part "$part" --plan > "$work/plan.log"
  awk 'NR == 1 {all = $1 - 3}  $1 == "part" && $4 != "extra" {sum += $7}  END {exit !(0 < sum && sum <= all)}' "$work/plan.log" ||
    { cat "$work/plan.log"; fail "the limits of part $part's proofs and measures exceed its time"; }
done

# ---- sound, part by part, on one machine and on two ----

expect 0 "220 s for:" "$bundle/gpu_check.sh" "$work/sound" --smoke --part 1
says "$work/sound" "Every proof that ran holds"
holds "$work/sound" 'r["ops"] and r["attention"] and not r["steps"] and r["conformance"]["not_agreeing"] == []'
expect 0 "310 s for:" "$bundle/gpu_check.sh" "$work/sound" --smoke --part 2 --archive "$work/all.tar.gz"
says "$work/sound" "Every proof that ran holds"
says "$work/sound" "sanitizer-memcheck (skipped)"
holds "$work/sound" 'r["ops"] and len(r["steps"]) == 4 and len(r["ablation"]) == 3 and set(r["tests"]) == {"kernels", "attention", "model", "infer", "train", "eval"}'
[ -s "$work/sound/losses.svg" ] || fail "no loss curves"
mkdir "$work/elsewhere"
tar -C "$work/elsewhere" -xzf "$work/all.tar.gz"
cmp "$work/elsewhere/sound/results.md" "$work/sound/results.md" || fail "the archive lacks the report"
[ ! -e "$work/elsewhere/sound/work" ] || fail "the archive holds what stages work on"
rm -r "$work/elsewhere/sound/part-1" "$work"/elsewhere/sound/results.*
expect 0 "results.md" python3 "$bundle/scripts/gpu_report.py" write "$work/elsewhere/sound"
holds "$work/elsewhere/sound" 'not r["ops"] and len(r["steps"]) == 4'

# ---- kills ----

session_of() { { cat /proc/[0-9]*/stat 2>/dev/null || true; } | awk -v s="$1" '$6 == s {print $1}'; }   # others come and go
# walk OUT STAGE OPTION…: begins a walk and returns once the stage runs; $walk is its process and its session's number.
walk() {
  local out=$1 stage=$2 i
  shift 2
  setsid "$bundle/gpu_check.sh" "$out" --smoke "$@" > "$work/walk.log" 2>&1 &
  walk=$!
  for i in $(seq 1500); do
    if grep -qs "^$stage	.*	running" "$out"/part-*/stages.tsv; then return 0; fi
    sleep 0.02
  done
  cat "$work/walk.log"
  fail "the stage $stage did not begin"
}
kill_walk() {
  local pids
  while pids=$(session_of "$walk") && [ -n "$pids" ]; do
    # shellcheck disable=SC2086
    kill -9 $pids || true
    sleep 0.02
  done
  wait "$walk" || true
} 2>/dev/null
# Stages end later than what they run, so that the kill finds them running.
cat > "$work/path/timeout" <<SCRIPT
#!/usr/bin/env bash
code=0
$(command -v timeout) "\$@" || code=\$?
case "\${SLOW_STAGES:-} \$*" in 1\ *bash\ -c*) sleep 30 ;; esac
exit \$code
SCRIPT
chmod +x "$work/path/timeout"
stages=$("$bundle/gpu_check.sh" "$work/none" --smoke --plan | awk '$1 == "part" && !/skipped:/ {print $2, $3}')
[ "$(wc -l <<< "$stages")" -ge 20 ] || fail "the plan lacks stages: $stages"
while read -r part stage; do
  out=$work/killed-$part-$stage
  SLOW_STAGES=1 walk "$out" "$stage" --part "$part" --only "$stage"
  sleep "0.$((RANDOM % 3))"
  kill_walk
  expect 0 "results.md" python3 "$bundle/scripts/gpu_report.py" write "$out"
  says "$out" "| part-$part | $stage | [a-z]* | \*\*interrupted"
done <<< "$stages"

# In the middle of everything: what was before counts, what would come is named. Part 1 stays, and a second try is whole.
rm -r "$work/sound/part-2"
walk "$work/sound" repeatability --part 2
kill_walk
expect 0 "results.md" python3 "$bundle/scripts/gpu_report.py" write "$work/sound"
says "$work/sound" "Not proven here:.*parity (not run)"
holds "$work/sound" 'r["ops"] and r["tests"]["model"]["ok"] == 1 and {s["name"]: s["status"] for s in r["stages"]}["tests-train"] == "ok"'
[ -s "$work/sound.tar.gz" ] || fail "no archive after a kill"
tar -tzf "$work/sound.tar.gz" > /dev/null || fail "a broken archive after a kill"
expect 0 "results.md" "$bundle/gpu_check.sh" "$work/sound" --smoke --part 2 --only machine,repeatability
holds "$work/sound" '{s["name"]: s["status"] for s in r["stages"]}["repeatability"] == "ok"'

# A polite end writes the report itself.
SLOW_STAGES=1 walk "$work/ended" machine --part 1
kill -TERM "$walk"
wait "$walk" && fail "an interrupted walk ended well" || [ $? = 1 ] || fail "an interrupted walk did not end with 1"
kill_walk
says "$work/ended" "| part-1 | machine | measure | \*\*interrupted"

# ---- failures cost what fails ----

cat > "$bundle/bin/test_eval" <<'SCRIPT'
#!/usr/bin/env bash
case "$*" in
  *--list*) printf '%s\n' "it passes" "it checks nothing" "it crashes" "it hangs" "it fails, and says so" ;;
  *passes) echo "All tests passed (1 assertion in 1 test case)" ;;
  *nothing) printf 'test cases: 1 | 1 passed\nassertions: - none -\n' ;;
  *crashes) kill -SEGV $$ ;;
  *hangs) exec sleep 100 ;;
  *"fails\\, and says so") echo "REQUIRE( 1 == 2 )"; exit 1 ;;
  *) echo "No test cases matched" ;;
esac
SCRIPT
mv "$bundle/bin/simt_conformance" "$bundle/bin/real_conformance"
cat > "$bundle/bin/simt_conformance" <<'SCRIPT'
#!/usr/bin/env bash
real=$(dirname "$0")/real_conformance
"$real" "$@" || exit
# The second record of one group ends the program, once.
if [ "$1 ${2:-}" = "--group mma" ] && [ ! -e "$3.crashed" ]; then
  sed -i '/^mma: mma.sync m16n8k16 fp16	/,$d' "$3"
  touch "$3.crashed"
  kill -ILL $$
fi
SCRIPT
chmod +x "$bundle/bin/simt_conformance"
sed -i '/^warps: named barriers/{n;s/^........ /deadbeef /}' "$bundle/data/executor.txt"   # the machines disagree …
rm "$bundle/bin/bench_train_step"                                                          # … and a benchmark does not run
expect 1 "conformance *failed" "$bundle/gpu_check.sh" "$work/broken" --smoke --only machine,conformance,tests-eval,step-8,ops
says "$work/broken" "Failed proofs: conformance (failed), tests-eval (failed)\."
says "$work/broken" "178 records agree, 1 differ, 1 are missing"
says "$work/broken" "| mma: mma.sync m16n8k16 fp16 | MISSING: the program ended while it ran |"
says "$work/broken" "| warps: named barriers hand a buffer over | DIFFERS 1 of"
holds "$work/broken" 'r["tests"]["eval"] == {"of": 5, "ok": 1, "others": {"skipped": ["it checks nothing"], "failed": ["it crashes", "it fails, and says so"], "timeout": ["it hangs"]}}'
says "$work/broken" "step-8 | measure | \*\*failed"
says "$work/broken" "| part-1 | ops | measure | ok"
[ -s "$work/broken/part-1/conformance-device.txt.gz" ] || fail "what the device gave is not kept"

expect 1 "no time was left" "$bundle/gpu_check.sh" "$work/late" --smoke --seconds 3 --only conformance
expect 2 "is no bundle" scripts/gpu_check.sh "$work/none" --bundle "$work"
expect 2 "is for --smoke" "$bundle/gpu_check.sh" "$work/none"
expect 2 "unknown option" scripts/gpu_check.sh "$work/none" --fast
expect 2 "no stage of dancing in part 1" "$bundle/gpu_check.sh" "$work/none" --smoke --part 1 --only dancing
expect 2 "part is 1 or 2" scripts/gpu_check.sh "$work/none" --part 3
expect 2 "whole number" scripts/gpu_check.sh "$work/none" --seconds 1.5
expect 2 "has no part-1 or part-2" python3 scripts/gpu_report.py write "$work"
expect 0 "Exit code" scripts/gpu_check.sh --help
expect 0 "Exit code" scripts/gpu_tests.sh --help
expect 0 "--preset" scripts/gpu_bundle.sh --help
echo "gpu_check_test: passed"

#!/usr/bin/env bash
# nvcc_without_spills.sh NVCC ARGUMENTS…: the compiler launcher of CUDA sources (cmake/Cuda.cmake).
# Compiles, and fails when an attention kernel costs what nobody would notice: when one for heads of 64 or 128 keeps registers in
# memory on any architecture, or when ptxas lets the products of one (wgmma) wait for each other. The plain kernels of
# attention_fma.cuh, attention_measures.cuh and attention_span_effect.cuh may spill: they are the path to check others against, and some spill a hundred bytes.
# mma.sync's with masks by row may keep up to 64 bytes in memory: two blocks of them a multiprocessor have all the registers there are,
# and sm_100 and sm_120 want a few more. Attention over the paged cache may keep 32, as it waits for memory anyway. Other sources are
# passed on as they are.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: nvcc_without_spills.sh NVCC ARGUMENTS…" >&2; exit 2; }

case " $* " in
  *attention*.cu\ *) ;;
  *) exec "$@" ;;
esac

log=$(mktemp)
trap 'rm -f "$log"' EXIT
code=0
"$@" -Xptxas -v 2> "$log" || code=$?

# What ptxas says of a kernel:
#   ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to … in the function '_Z…'
#   ptxas info    : (C7517) warpgroup.wait is injected in around line 77 by compiler to allow use of registers … in function '_Z…'
#   ptxas info    : Compiling entry function '_Z…' for 'sm_90a'
#   ptxas info    : Function properties for _Z…
#       0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
# The rest of standard error goes on.
grep -vE '^ptxas info|^ +[0-9]+ bytes stack frame|^ *$' "$log" >&2 || true
[ "$code" = 0 ] || exit "$code"

demangle() { if command -v c++filt >/dev/null; then c++filt; else cat; fi; }
spills=$(demangle < "$log" | awk '
  function plain(name) { return name ~ /::attention_(forward|d_query|d_key|influence|key_mass|span_effect)_kernel</ }
  function cached(name) { return name ~ /cached_attention_/ }
  function by_row(name) { return name ~ /attention_mma_.*(, true>|Lb1E)/ }
  /Compiling entry function/ { split($0, part, "\047"); kernel = part[2]; architecture = part[4] }
  /bytes spill stores/ && ($5 != "0" || $9 != "0") && kernel ~ /attention.*(<|, |\)|Li)(64|128)(>|,|E)/ && !plain(kernel) &&
      !(by_row(kernel) && $5 <= 64 && $9 <= 96) && !(cached(kernel) && $5 <= 32 && $9 <= 32) {
    sub(/^void /, "", kernel); sub(/\(.*$/, "", kernel)
    print "  " kernel " for " architecture ": " $5 " bytes stored, " $9 " loaded"
  }')
serialised=$(grep -E '\(C75[0-9]+\)' "$log" | sed 's/^ptxas info *: /  /' | demangle || true)
if [ -n "$spills" ]; then
  printf 'Attention kernels for heads of 64 or 128 must not spill registers:\n%s\n' "$spills" >&2
fi
if [ -n "$serialised" ]; then
  printf 'The products of attention kernels must not wait for each other:\n%s\n' "$serialised" >&2
fi
[ -z "$spills$serialised" ] || exit 1

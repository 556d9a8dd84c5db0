#!/usr/bin/env python3
"""Compares `ballast tokenizer encode` and `decode` with the `tokenizers` package, id by id and character by character.

    python3 -m venv venv && venv/bin/pip install 'tokenizers==0.23.*'
    venv/bin/python scripts/check_tokenizer_parity.py build/cpu/bin/ballast tokenizer.json FILE_OR_FOLDER...

Each file is one text. On top of the files come generated Unicode torture texts (fixed seed): every assigned plane, all
code points in order, combining marks in random order, Hangul, white space of all kinds, near misses of special tokens.
Ids are compared with and without special tokens, and their text is decoded with and without them.
Exits with 1 at the first difference, with 4 where the package is missing. The results that count are kept in docs/results/tokenizer-parity.md.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time

if len(sys.argv) < 3:
    print("usage: check_tokenizer_parity.py BALLAST TOKENIZER.json FILE_OR_FOLDER...", file=sys.stderr)
    sys.exit(2)
try:
    import tokenizers
except ImportError as error:
    print(f"check_tokenizer_parity: python3 has no {error.name}; its head says what to install", file=sys.stderr)
    sys.exit(4)

SPECIAL = ["<|endoftext|>", "<|endoftext|", "|endoftext|>", "<|padding|>", "<|", "|>", "'s", "'ll", "'LL", "'re", "' s"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u2028",
          "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff"] + [" " * n for n in (3, 7, 23, 24, 25, 49)]
MARKS = list(range(0x300, 0x370)) + [0x334, 0x345, 0x591, 0x5B0, 0x64B, 0x8D3, 0x898, 0x93C, 0x9BE, 0xBD7, 0x1161,
                                     0x11A8, 0x1ABF, 0x1DFA, 0x20D0, 0x3099, 0x309A, 0x11930, 0x16FF0, 0x1D165]
BASES = [ord(c) for c in "aAeEiozZ1 <"] + [0x3B1, 0x451, 0x928, 0x9C7, 0x1100, 0xAC00, 0x304B, 0x11935, 0x105D2,
                                           0x1F600]


def random_code_point(rng):
    while True:
        c = rng.choice((rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x10000), rng.randrange(0x110000)))
        if not 0xD800 <= c <= 0xDFFF:
            return c


def torture_texts(seed=20231123):
    rng = random.Random(seed)
    every = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    yield "every code point", "".join(every)
    yield "every code point after a letter and a space", "".join("a" + c + " " for c in every)
    yield "random code points", "".join(chr(random_code_point(rng)) for _ in range(300000))
    yield "bases and marks", "".join(chr(rng.choice(MARKS if rng.random() < 0.7 else BASES)) for _ in range(300000))
    words = SPECIAL + SPACES + ["the", "The", "don't", "caf\u00e9", "cafe\u0301", "\u4e2d\u6587", "12", "\u00bd", "--",
                              "_", "\U0001F468\u200d\U0001F469"]
    yield "words, spaces and special tokens", "".join(rng.choice(words) for _ in range(200000))
    yield "one long word", "".join(rng.choice("ab") for _ in range(50000))


def files_below(path):
    if os.path.isfile(path):
        return [path]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)


def texts(paths):
    for path in paths:
        for name in files_below(path):
            with open(name, encoding="utf-8", newline="") as file:
                yield name, file.read()
    yield from torture_texts()


def ballast(binary, tokenizer, command, lines):
    """One process for all lines, each an object in and an object out."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.flush()
        out = subprocess.run([binary, "tokenizer", command, "-t", tokenizer, "--jsonl", file.name], check=True,
                             stdout=subprocess.PIPE)
    return [json.loads(line) for line in out.stdout.split(b"\n") if line]


def compare(name, what, ours, theirs, context=8):
    if ours == theirs:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    sys.exit(f"{name}: {what} differ at {at}: ours {ours[at:at + context]!r}, theirs {theirs[at:at + context]!r}, "
             f"after {theirs[max(0, at - context):at]!r}")


def main():
    binary, tokenizer, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
    package = tokenizers.Tokenizer.from_file(tokenizer)
    total_bytes = total_ids = 0
    seconds = 0.0
    for name, text in texts(paths):
        encoded = ballast(binary, tokenizer, "encode", [{"text": text, "add_special": flag} for flag in (False, True)])
        started = time.perf_counter()
        expected = package.encode(text, add_special_tokens=False).ids
        seconds += time.perf_counter() - started
        special = package.encode(text, add_special_tokens=True).ids
        compare(name, "ids", encoded[0]["ids"], expected)
        compare(name, "ids with special tokens", encoded[1]["ids"], special)
        decoded = ballast(binary, tokenizer, "decode", [{"ids": special, "skip_special": flag} for flag in (False, True)])
        for skip, line in zip((False, True), decoded):
            compare(name, f"texts (skip_special {skip})", line["text"], package.decode(special, skip_special_tokens=skip), 40)
        total_bytes += len(text.encode())
        total_ids += len(expected)
        print(f"{name}: {len(expected)} ids and their text equal", flush=True)
    print(f"tokenizers {tokenizers.__version__}: {total_ids} ids of {total_bytes} bytes equal; "
          f"the package took {seconds:.1f} s ({total_bytes / seconds / 1e6:.2f} MB/s, one thread)")


if __name__ == "__main__":
    main()

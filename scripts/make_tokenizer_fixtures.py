#!/usr/bin/env python3
"""Writes the fixtures of tests/data: what the `tokenizers` package does, for comparison.

    venv/bin/pip install 'tokenizers==0.23.*'
    venv/bin/python scripts/make_tokenizer_fixtures.py BASE_TOKENIZER_JSON tests/data/fixtures

BASE_TOKENIZER_JSON: a small one of ours (`ballast tokenizer train --vocab-size 1024`). It gets added tokens of every
kind. Then: torture texts with their ids (parity.json), and a generated text with the merges learned from it
(training.json). Everything is deterministic.
"""

import json
import os
import random
import sys

if len(sys.argv) != 3:
    print("usage: make_tokenizer_fixtures.py BASE_TOKENIZER_JSON FOLDER", file=sys.stderr)
    sys.exit(2)
try:
    import tokenizers
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
except ImportError as error:
    print(f"make_tokenizer_fixtures: python3 has no {error.name}; its head says what to install", file=sys.stderr)
    sys.exit(4)

SPACES = ["\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u180e", "\u2000", "\u2003", "\u2028",
          "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", " "]
MARKS = [0x300, 0x301, 0x307, 0x308, 0x327, 0x331, 0x334, 0x338, 0x345, 0x591, 0x5B0, 0x64B, 0x8D3, 0x898, 0x93C, 0x9BE,
         0x9D7, 0xBD7, 0x1161, 0x1175, 0x11A8, 0x11C2, 0x1ABF, 0x1DFA, 0x20D0, 0x3099, 0x309A, 0x11930, 0x16FF0,
         0x1D165]
BASES = [ord(c) for c in "aAeEozK1 <"] + [0x3B1, 0x3C9, 0x928, 0x9C7, 0x1100, 0xAC00, 0x304B, 0x11935, 0x105D2, 0x1F600,
                                           0x212B, 0x1E9B, 0x340, 0xFB1D, 0x2126]


def with_added_tokens(path):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True, special=False) for n in (24, 8, 3, 2)])
    tokenizer.add_tokens([AddedToken("caf\u00e9 noir", normalized=True), AddedToken("e\u0301x", normalized=False),
                          AddedToken("<|end", normalized=False), AddedToken("\u00e9x\u00e9", normalized=True)])
    return tokenizer


def character(c):
    return chr(c) if not 0xD800 <= c <= 0xDFFF else "\ufffd"


def torture_texts():
    rng = random.Random(1234)
    yield from ["", " ", "  ", "a", "'", "'s", " 's", "don't we'LL they'll I'm you've 're", "x  y   z    w", "\n\n\nx",
                "x\n\n\n", "tail space ", "tail spaces   ", " \u00a0 x", "123abc456", "\u00bd\u2167\u0663",
                "a_b-c...d!?", "(\"Call me\")"]
    yield from ["<|endoftext|>", "a<|endoftext|>b", "<|endoftext|><|padding|>", "<|endoftex", "<|end<|endoftext|>",
                " <|endoftext|> ", "x" + " " * 49 + "y", " " * 27, "caf\u00e9 noir", "cafe\u0301 noir", "cafe\u0301x",
                "e\u0301x\u00e9 \u00e9xe\u0301 \u00e9x\u00e9"]
    yield "".join("a" + s + "b" + s + s + "," + s + "'s" for s in SPACES)
    yield "".join(s for s in SPACES for _ in range(2))
    for _ in range(12):
        yield "".join(chr(rng.choice(MARKS if rng.random() < 0.6 else BASES)) for _ in range(60))
    for _ in range(6):
        choices = lambda: (rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000))
        yield "".join(character(rng.choice(choices())) for _ in range(60))
    yield "".join(character(c) for c in range(0x20, 0x250))
    yield "".join("a" + character(c) for c in range(0x300, 0x10FFFF, 3001))
    yield "".join("1" + character(c) for c in range(0x2000, 0x10FFFF, 5003))
    yield "".join(rng.choice("ab ") for _ in range(300)) + "ab" * 200 + "a" * 130
    yield "\u4f60\u597d\uff0c\u4e16\u754c\u3002\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \u0939\u093f\u0928\u094d\u0926\u0940 " \
          "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \U0001F468\u200d\U0001F469\u200d\U0001F467\U0001F1E9\U0001F1EA"


def training_text():
    rng = random.Random(99)
    syllables = ["ba", "na", "aa", "ta", "t", "ing", "e\u0301", "\u00e9", "\u6f22", "o", "n", "'s", "12", "--"]
    words = ["".join(rng.choice(syllables) for _ in range(rng.randrange(1, 5))) for _ in range(90)]
    return "".join(rng.choice(words) + rng.choice([" ", " ", " ", "  ", "\n", ", "]) for _ in range(900))


def learned_merges(text, vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|endoftext|>", "<|padding|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return json.loads(tokenizer.to_str())["model"]["merges"]


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


def main():
    base, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    tokenizer = with_added_tokens(base)
    write(folder, "tokenizer.json", json.loads(tokenizer.to_str()))
    cases = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in torture_texts()]
    write(folder, "parity.json", {"tokenizers": tokenizers.__version__, "cases": cases})
    text = training_text()
    write(folder, "training.json", {"tokenizers": tokenizers.__version__, "text": text, "vocab_size": 700,
                                    "merges": learned_merges(text, 700)})


if __name__ == "__main__":
    main()

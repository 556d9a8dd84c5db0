#!/usr/bin/env python3
"""The yardstick for bench_tokenizer: the `tokenizers` package on the same text, one thread.

    tokenizers_baseline.py TOKENIZER.json TEXT [--json OUT.json]

TEXT is a file or a folder of .txt files. Whole texts by `encode`, paragraphs by `encode` and, what is fastest, paragraphs by
`encode_batch_fast`; the best of two runs each. Exit code 4 when the package is missing.
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
try:
    import tokenizers
except ImportError:
    print("tokenizers_baseline: python3 has no tokenizers package", file=sys.stderr)
    sys.exit(4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer")
    parser.add_argument("text", type=Path)
    parser.add_argument("--json")
    options = parser.parse_args()
    tokenizer = tokenizers.Tokenizer.from_file(options.tokenizer)
    files = sorted(options.text.rglob("*.txt")) if options.text.is_dir() else [options.text]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    if not texts:
        parser.error(f"{options.text}: no .txt files there")
    paragraphs = [part for text in texts for part in text.split("\n\n")]

    def rate(run, pieces):
        size, best = sum(len(piece.encode()) for piece in pieces), float("inf")
        for _ in range(2):
            start = time.perf_counter()
            run(pieces)
            best = min(best, time.perf_counter() - start)
        return size / best * 1e-6

    def one_by_one(pieces):
        for piece in pieces:
            tokenizer.encode(piece, add_special_tokens=False)

    report = {"tokenizers": tokenizers.__version__, "threads": 1,
              "whole_texts_mb_per_s": rate(one_by_one, texts),
              "paragraphs_mb_per_s": rate(one_by_one, paragraphs),
              "batches_mb_per_s": rate(lambda pieces: tokenizer.encode_batch_fast(pieces, add_special_tokens=False), paragraphs)}
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        Path(options.json).write_text(text + "\n")


if __name__ == "__main__":
    main()

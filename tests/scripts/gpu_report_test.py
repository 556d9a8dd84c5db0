"""scripts/gpu_report.py on recorded outputs of a check in which things went wrong. Run by ctest: python3 gpu_report_test.py ROOT"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv.pop(1))
REPORT = [sys.executable, str(ROOT / "scripts" / "gpu_report.py")]

MACHINE = """{"commit": "abc1234", "preset": "cuda", "made": "2026-11-25", "nvcc": "13.0", "compiler": "g++"}
version    0.1.0 (commit abc1234, GCC 12.2.0, Release)
backends   cpu: kernels for AVX3
           cuda: NVIDIA H100 80GB HBM3, 79 GiB, compute capability 9.0, driver for CUDA 13.0, runtime 13.0
processor  Intel(R) Xeon(R); units: AVX2
| NVIDIA-SMI 580.1  Driver Version: 580.159.04  CUDA Version: 13.0 |
"""
STAGES = [("machine", "measure", "ok", 1, ""), ("conformance", "proof", "ok", 3, ""),
          ("tests-kernels", "proof", "failed", 20, "exit code 1: 2 of 41 test cases | failed"),
          ("sanitizer-memcheck", "extra", "skipped", 0, "compute-sanitizer is not on the PATH"),
          ("parity", "proof", "running", 0, ""), ("parity", "proof", "timeout", 60, "stopped after 60 s"),
          ("ablation", "extra", "left-out", 0, "no time was left"), ("repeatability", "proof", "running", 0, "")]
PLAN = [("machine", "measure"), ("conformance", "proof"), ("tests-kernels", "proof"), ("sanitizer-memcheck", "extra"), ("parity", "proof"),
        ("ablation", "extra"), ("repeatability", "proof"), ("tests-eval", "proof")]
CONFORMANCE = """types: bf16: every value to f32                              agrees   65536 words, exact, worst 0 of 0
wgmma-fp16: fp16 n64, A k-major 128, B k-major 128         DIFFERS 3 of 8192 words, first 7: 00000000 and 3f800000 (worst inf)
setmaxnreg: one warpgroup gives, two take                  MISSING: the program ended while it ran
178 records agree, 1 differ, 1 are missing
"""


def lines_of(rows):
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def attention(model, length, head, direction, normaliser, seconds, **more):
    return {"model": model, "B": 16, "T": length, "H": 12, "D": head, "direction": direction, "normaliser": normaliser,
            "seconds": seconds, **more}


OPS = {"device": "cuda", "dtype": "bf16", "limits": {"memory_gbytes_per_s": 3000.0, "gemm_gflops": 790000.0},
       "ops": [{"name": "layernorm_forward", "shape": "16384 x 768", "seconds": 2e-5, "least": 1.9e-5, "runs": 9, "limit": "memory",
                "share": 0.84}, {"name": "adamw", "shape": "1", "seconds": 2e-3, "least": 2e-3, "runs": 9, "limit": "memory", "share": 0.9},
               {"name": "linear_forward", "shape": "a | b", "seconds": 1e-4, "least": 1e-4, "runs": 9, "limit": "gemm", "share": 0.2}]}
ATTENTION = {"attention": [attention("pythia-160m", 2048, 64, d, n, s, share=0.4) for d, n, s in
                           (("forward", "softmax", 1e-3), ("forward", "sink_logit", 1.01e-3), ("backward", "softmax", 3e-3),
                            ("backward", "sink_logit", 3.15e-3))]}
CUDNN = {"attention": [attention("pythia-160m", 2048, 64, "forward", "softmax", 1e-3, cudnn_default=1e-3, ratio_default=1.0),
                       attention("pythia-160m", 2048, 64, "backward", "softmax", 3e-3, cudnn_deterministic=2.5e-3, cudnn_default=2e-3,
                                 ratio_deterministic=1.2, ratio_default=1.5, disagrees=True),
                       attention("pythia-1b", 2048, 256, "backward", "softmax", 3e-3, cudnn_default=None, why_default="not supported")]}


def step(batch, rate, mfu, gaps):
    return {"shape": "pythia-160m", "dtype": "bf16", "batch": batch, "seq": 2048, "flops_per_token": 9.686e8, "step_seconds": 0.1,
            "tokens_per_s": rate, "mfu": mfu, "share": 0.5, "launch_gaps": gaps, "peak_bytes": 2**33, "planned_bytes": 2**33}


PYTORCH = {"steps": [{"batch": 8, "tokens_per_s": 400000.0}, {"batch": 64, "error": "out of memory: tried"}],
           "attention": [{"model": "pythia-160m", "T": 2048, "direction": "forward", "seconds": 1.2e-3}]}


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = pathlib.Path(self.folder.name)
        self.put("part-1/logs/machine.log", MACHINE)
        self.put("part-1/plan.tsv", lines_of(PLAN))
        self.put("part-1/stages.tsv", lines_of(STAGES))

    def tearDown(self):
        self.folder.cleanup()

    def put(self, name, value):
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))

    def write(self):
        done = subprocess.run([*REPORT, "write", str(self.out)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads((self.out / "results.json").read_text()), (self.out / "results.md").read_text()

    def met(self, results):
        return {t["what"]: t["met"] for t in results["targets"]}

    def test_nothing_measured(self):
        results, text = self.write()
        self.assertTrue(all(met is None for met in self.met(results).values()))
        self.assertIn("not measured", text)
        self.assertFalse((self.out / "losses.svg").exists())

    def test_failures_are_named(self):
        _, text = self.write()
        self.assertIn("**Failed proofs: tests-kernels (failed), parity (timeout), repeatability (interrupted).**", text)
        self.assertIn("Not proven here: sanitizer-memcheck (skipped), ablation (left-out), tests-eval (not run).", text)
        self.assertEqual(text.count("| parity |"), 1)

    def test_notes_are_kept(self):
        self.put("notes.md", "The fan was loud.\n")
        results, text = self.write()
        self.assertEqual(results["notes"], "The fan was loud.\n")
        self.assertLess(text.index("Commit abc1234"), text.index("The fan was loud."))
        self.assertLess(text.index("The fan was loud."), text.index("## Targets"))
        self.assertIn("2 of 41 test cases \\| failed", text)  # a bar must not break the table
        self.assertIn("**left-out**", text)

    def test_tests_and_records_are_named(self):
        self.put("part-1/tests/kernels.names", "a: one\nb: two, three\nc | four\nd\n")
        self.put("part-1/tests/kernels.tsv", "ok\t2\ta: one\nfailed\t1\tb: two, three\nskipped\t0\tc | four\nfai")
        self.put("part-1/logs/conformance.log", CONFORMANCE)
        results, text = self.write()
        self.assertEqual(results["tests"]["kernels"], {"of": 4, "ok": 1, "others": {
            "failed": ["b: two, three"], "skipped": ["c | four"], "not run": ["d"]}})
        self.assertEqual([r["record"].split(":")[0] for r in results["conformance"]["not_agreeing"]], ["wgmma-fp16", "setmaxnreg"])
        self.assertIn("178 records agree, 1 differ, 1 are missing", text)
        self.assertIn("| setmaxnreg: one warpgroup gives, two take | MISSING: the program ended while it ran |", text)

    def test_nothing_at_all(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([*REPORT, "write", folder], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn("has no part-1 or part-2", done.stderr)

    def test_a_kill_before_the_first_stage(self):
        (self.out / "part-1" / "stages.tsv").unlink()
        (self.out / "part-1" / "logs" / "machine.log").unlink()
        results, text = self.write()
        self.assertEqual({s["status"] for s in results["stages"]}, {"not run"})
        self.assertIn("unknown device", text)

    def test_everything(self):
        self.put("part-1/ops.raw.json", OPS)
        self.put("part-1/attention.raw.json", ATTENTION)
        self.put("part-2/cudnn.raw.json", CUDNN)
        self.put("part-2/pytorch.raw.json", PYTORCH)
        self.put("part-2/step-8.raw.json", step(8, 470000.0, 0.46, 0.02))
        self.put("part-2/step-64.raw.json", step(64, 500000.0, 0.49, 0.04))
        self.put("part-2/step-16.raw.json", '{"batch": 16, "tokens_per')  # its stage was stopped
        self.put("part-2/ablation/vanilla/metrics.jsonl", "".join(json.dumps({"step": s, "loss": 9 - s / 100}) + "\n" for s in range(1, 301)) + '{"st')
        self.put("part-2/ablation/zero_sink/metrics.jsonl", json.dumps({"step": 1, "loss": float("nan")}) + "\n")
        results, text = self.write()
        met = self.met(results)
        self.assertEqual(met["attention forward, D 64, T 2048, beside cuDNN"], True)
        self.assertEqual(met["attention backward, D 64, T 2048, beside cuDNN's deterministic"], False)
        self.assertIsNone(met["attention forward, D 128, T 2048, beside cuDNN"])
        self.assertEqual(met["a sink logit costs, T 2048, worst"], False)  # 5 % backward
        self.assertEqual(met["memory-bound kernels, worst share of the copy rate"], False)
        self.assertEqual(met["Pythia-160M training, MFU, best batch"], True)
        self.assertEqual(met["Pythia-160M training, beside PyTorch compiled, worst batch"], True)
        self.assertEqual(met["launch gaps, worst batch"], False)
        self.assertIn("84.0 % (layernorm_forward)", text)
        self.assertIn("1.20x (its default: 1.50x)", text)
        self.assertIn("**differs**", text)
        self.assertIn("out of memory: tried", text)
        self.assertIn("NVIDIA H100 80GB HBM3", text)
        self.assertIn("580.159.04", text)
        self.assertIn("6.000", text)  # vanilla's loss at step 300
        self.assertIn("<polyline", (self.out / "losses.svg").read_text())
        self.assertEqual(self.write()[0], results)  # again, from the same files
        self.assertEqual(len(results["ablation"]["vanilla"]), 300)

    def test_h200_has_its_own_target(self):
        self.put("part-1/logs/machine.log", MACHINE.replace("H100 80GB HBM3", "H200"))
        self.put("part-2/step-8.raw.json", step(8, 470000.0, 0.46, 0.02))
        results, text = self.write()
        self.assertEqual(self.met(results)["Pythia-160M training, MFU, best batch"], False)
        self.assertIn(">= 50 % (H200)", text)


class Compare(unittest.TestCase):
    def compare(self, a, b, tolerance):
        with tempfile.TemporaryDirectory() as folder:
            for name, rows in (("a", a), ("b", b)):
                run = pathlib.Path(folder) / name
                run.mkdir()
                (run / "metrics.jsonl").write_text("".join(
                    json.dumps({"step": i + 1, "loss": l, "grad_norm": n}) + "\n" for i, (l, n) in enumerate(rows)))
            return subprocess.run([*REPORT, "compare", f"{folder}/a", f"{folder}/b", "--tolerance", tolerance],
                                  capture_output=True, text=True)

    def test_equal(self):
        self.assertEqual(self.compare([(5.0, 1.0), (4.0, 1.0)], [(5.0, 1.0), (4.0, 1.0)], "0").returncode, 0)

    def test_differences(self):
        for a, b, tolerance, code in (((4.0, 1.0), (4.0 + 1e-15, 1.0), "0", 1), ((4.0, 1.0), (4.0004, 1.0), "1e-3", 0),
                                      ((4.0, 1.0), (4.008, 1.0), "1e-3", 1), ((4.0, 1.0), (4.0, 1.02), "1e-3", 1),
                                      ((4.0, 1.0), (float("nan"), 1.0), "1e-3", 1)):
            self.assertEqual(self.compare([a], [b], tolerance).returncode, code, (a, b, tolerance))

    def test_lengths(self):
        self.assertEqual(self.compare([(4.0, 1.0)], [(4.0, 1.0), (3.0, 1.0)], "1").returncode, 1)
        self.assertEqual(self.compare([], [], "1").returncode, 1)


if __name__ == "__main__":
    unittest.main()

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
          ("sanitizer-memcheck", "proof", "skipped", 0, "compute-sanitizer is not on the PATH"),
          ("parity", "proof", "timeout", 60, "stopped after 60 s"), ("ablation", "proof", "left-out", 0, "no time was left")]


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
        (self.out / "logs").mkdir()
        (self.out / "logs" / "machine.log").write_text(MACHINE)
        (self.out / "stages.tsv").write_text("".join("\t".join(map(str, s)) + "\n" for s in STAGES))

    def tearDown(self):
        self.folder.cleanup()

    def put(self, name, value):
        (self.out / name).write_text(value if isinstance(value, str) else json.dumps(value))

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
        self.assertIn("**Failed proofs: tests-kernels, parity, ablation.**", text)
        self.assertIn("Not proven here: sanitizer-memcheck.", text)
        self.assertIn("2 of 41 test cases \\| failed", text)  # a bar must not break the table
        self.assertIn("**left-out**", text)

    def test_everything(self):
        self.put("ops.raw.json", OPS)
        self.put("attention.raw.json", ATTENTION)
        self.put("cudnn.raw.json", CUDNN)
        self.put("pytorch.raw.json", PYTORCH)
        self.put("step-8.raw.json", step(8, 470000.0, 0.46, 0.02))
        self.put("step-64.raw.json", step(64, 500000.0, 0.49, 0.04))
        self.put("step-16.raw.json", '{"batch": 16, "tokens_per')  # its stage was stopped
        self.put("ablation-vanilla.jsonl", "".join(json.dumps({"step": s, "loss": 9 - s / 100}) + "\n" for s in range(1, 301)) + '{"st')
        self.put("ablation-zero_sink.jsonl", json.dumps({"step": 1, "loss": float("nan")}) + "\n")
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
        self.assertEqual(list(self.out.glob("*.raw.json")), [])
        self.assertEqual(len(results["ablation"]["vanilla"]), 300)

    def test_h200_has_its_own_target(self):
        (self.out / "logs" / "machine.log").write_text(MACHINE.replace("H100 80GB HBM3", "H200"))
        self.put("step-8.raw.json", step(8, 470000.0, 0.46, 0.02))
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

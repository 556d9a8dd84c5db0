#!/usr/bin/env python3
"""Reads what the stages of gpu_check.sh left in OUT/part-1 and OUT/part-2, whole or not, and writes OUT/results.json, OUT/results.md
and OUT/losses.svg. OUT/notes.md, where there is one, goes into the report below its head.

    gpu_report.py write OUT
    gpu_report.py compare RUN_A RUN_B --tolerance T     losses and gradient norms of two runs; exit code 1: they differ

Python's standard library alone.
"""
import argparse
import datetime
import json
import math
import pathlib
import re
import sys


# ---- reading --------------------------------------------------------------------------------------------------------

def read_json(path):
    """The file's value, or None when a stage did not get so far as to write it, or was stopped while it did."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def read_lines(path):
    """The whole lines of a .jsonl file."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                pass
    return rows


def read_rows(path, columns):
    """The whole lines of a file of tab-separated values."""
    if not path.exists():
        return []
    rows = [line.split("\t") for line in path.read_text(errors="replace").splitlines()]
    return [row for row in rows if len(row) == columns]


def read_stages(part):
    """Every planned stage once, in order. One that began and has no end was interrupted, one that did not begin was not run."""
    stages = {name: {"part": part.name, "name": name, "kind": kind, "status": "not run", "seconds": 0, "detail": ""}
              for name, kind in read_rows(part / "plan.tsv", 2)}
    for name, kind, status, seconds, detail in read_rows(part / "stages.tsv", 5):
        stages[name] = {"part": part.name, "name": name, "kind": kind, "status": "interrupted" if status == "running" else status,
                        "seconds": int(seconds), "detail": detail}
    return list(stages.values())


def read_machine(log):
    """GPU, driver and commit from the log of the stage `machine`."""
    text = log.read_text(errors="replace") if log.exists() else ""
    def find(pattern):
        match = re.search(pattern, text, re.MULTILINE)
        return match.group(1).strip() if match else None
    return {"gpu": find(r"^\S*\s+cuda: ([^,\n]+)") or find(r"^\S*\s+simt: (.+)$"), "backend": find(r"^\S*\s+((?:cuda|simt): .+)$"),
            "driver": find(r"Driver Version: (\S+)"), "processor": find(r"^processor\s+(.+)$"),
            "bundle": next((json.loads(l) for l in text.splitlines() if re.fullmatch(r'\{"commit".*\}', l)), None)}


def read_conformance(log):
    """The records that do not agree, each with why, and the summary; None when nothing was compared."""
    if not log.exists():
        return None
    lines = log.read_text(errors="replace").splitlines()
    summary = [line for line in lines if re.fullmatch(r"\d+ records agree, \d+ differ, \d+ are missing", line)]
    if not summary:
        return None
    bad = [re.split(r"\s+(?=DIFFERS|MISSING)", line, maxsplit=1) for line in lines if re.search(r"\s(DIFFERS|MISSING)", line)]
    return {"summary": summary[-1], "not_agreeing": [{"record": b[0], "why": b[1]} for b in bad]}


def read_tests(folder):
    """Rooms' tests by status; a test that is listed and has no status was not run, or was stopped."""
    rooms = {}
    for path in sorted(folder.glob("*.names")):
        status = {name: "not run" for name in path.read_text(errors="replace").splitlines() if name}
        status.update((name, how) for how, _, name in read_rows(path.with_suffix(".tsv"), 3))
        by_status = {}
        for name, how in status.items():
            by_status.setdefault(how, []).append(name)
        rooms[path.stem] = {"of": len(status), "ok": len(by_status.pop("ok", [])), "others": by_status}
    return rooms


def collect(out):
    parts = sorted(p for p in out.glob("part-*") if p.is_dir())
    machines = [read_machine(part / "logs" / "machine.log") for part in parts]
    results = {"date": datetime.date.today().isoformat(),
               "machine": next((m for m in machines if m["backend"]), read_machine(out / "none")),
               "notes": (out / "notes.md").read_text() if (out / "notes.md").exists() else "",
               "stages": [], "conformance": None, "tests": {}, "ops": None, "attention": None, "cudnn": None, "steps": [],
               "pytorch": None, "ablation": {}}
    for part in parts:
        results["stages"] += read_stages(part)
        results["tests"].update(read_tests(part / "tests"))
        results["conformance"] = read_conformance(part / "logs" / "conformance.log") or results["conformance"]
        for name in ("ops", "attention", "cudnn", "pytorch"):
            results[name] = read_json(part / f"{name}.raw.json") or results[name]
        results["steps"] += [s for s in map(read_json, part.glob("step-*.raw.json")) if s]
        for path in sorted(part.glob("ablation/*/metrics.jsonl")):
            results["ablation"][path.parent.name] = read_lines(path)
    results["steps"].sort(key=lambda s: s["batch"])
    return results


# ---- targets --------------------------------------------------------------------------------------------------------

def verdict(value, bound, at_most):
    """True, False, or None where nothing was measured. A NaN does not meet a target."""
    if value is None:
        return None
    return value <= bound if at_most else value >= bound


def cudnn_ratio(results, direction, heads, how):
    """The worst of T = 2048 with a plain softmax over these head dims."""
    ratios = [row.get("ratio_" + how) for row in (results["cudnn"] or {}).get("attention", [])
              if row["T"] == 2048 and row["D"] in heads and row["direction"] == direction and row["normaliser"] == "softmax"]
    ratios = [r for r in ratios if r is not None]
    return max(ratios) if ratios else None


def sink_costs(results):
    """Time with a learned sink logit over time without, less one, for every shape and direction."""
    times = {}
    for row in (results["attention"] or {}).get("attention", []):
        times.setdefault((row["model"], row["T"], row["direction"]), {})[row["normaliser"]] = row["seconds"]
    return {key: t["sink_logit"] / t["softmax"] - 1 for key, t in times.items() if "sink_logit" in t and "softmax" in t}


def pytorch_ratios(results):
    theirs = {s["batch"]: s["tokens_per_s"] for s in (results["pytorch"] or {}).get("steps", []) if "tokens_per_s" in s}
    return {s["batch"]: s["tokens_per_s"] / theirs[s["batch"]] for s in results["steps"] if s["batch"] in theirs}


def targets(results):
    """Rows of (what, target, measured as text, met). They are about a GPU; elsewhere nothing counts as measured."""
    rows = []
    on_gpu = (results["machine"]["backend"] or "").startswith("cuda")
    def add(what, target, value, bound, at_most, form):
        value = value if on_gpu else None
        rows.append((what, target, "not measured" if value is None else form(value), verdict(value, bound, at_most)))
    times, percent = (lambda v: f"{v:.2f}x"), (lambda v: f"{100 * v:.1f} %")
    for head in (64, 128):
        add(f"attention forward, D {head}, T 2048, beside cuDNN", "<= 1.10x its time",
            cudnn_ratio(results, "forward", (head,), "default"), 1.10, True, times)
        beside = cudnn_ratio(results, "backward", (head,), "default")
        add(f"attention backward, D {head}, T 2048, beside cuDNN's deterministic", "<= 1.15x its time",
            cudnn_ratio(results, "backward", (head,), "deterministic"), 1.15, True,
            lambda v, b=beside: times(v) + ("" if b is None else f" (its default: {b:.2f}x)"))
    costs = [c for (_, length, _), c in sink_costs(results).items() if length == 2048]
    add("a sink logit costs, T 2048, worst", "<= 2 %", max(costs) if costs else None, 0.02, True, percent)
    bound = [(op["share"], op["name"]) for op in (results["ops"] or {}).get("ops", []) if op["limit"] == "memory"]
    add("memory-bound kernels, worst share of the copy rate", ">= 85 %", min(bound)[0] if bound else None, 0.85, False,
        lambda v: f"{100 * v:.1f} % ({min(bound)[1]})")
    h200 = "H200" in (results["machine"]["gpu"] or "")
    mfu = [s["mfu"] for s in results["steps"] if "mfu" in s]
    add("Pythia-160M training, MFU, best batch", ">= 50 % (H200)" if h200 else ">= 45 % (H100)", max(mfu) if mfu else None,
        0.50 if h200 else 0.45, False, percent)
    ratios = pytorch_ratios(results)
    add("Pythia-160M training, beside PyTorch compiled, worst batch", ">= 1.15x its rate",
        min(ratios.values()) if ratios else None, 1.15, False, times)
    gaps = [s["launch_gaps"] for s in results["steps"] if "launch_gaps" in s]
    add("launch gaps, worst batch", "< 3 % of the step", max(gaps) if gaps else None, 0.03, True, percent)
    return rows


# ---- writing --------------------------------------------------------------------------------------------------------

def table(head, rows):
    lines = ["| " + " | ".join(map(str, head)) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows] + [""]


def microseconds(seconds):
    return "—" if seconds is None else f"{seconds * 1e6:,.1f}"


FINE = ("ok", "skipped")


def names_of(stages):
    return ", ".join(f"{s['name']} ({s['status']})" for s in stages)


def proofs_section(results):
    rows = [(s["part"], s["name"], s["kind"], s["status"] if s["status"] in FINE else f"**{s['status']}**", s["seconds"], s["detail"])
            for s in results["stages"]]
    proofs = [s for s in results["stages"] if s["kind"] in ("proof", "extra")]
    bad = [s for s in proofs if s["status"] in ("failed", "timeout", "interrupted")]
    open_ = [s for s in proofs if s["status"] in ("skipped", "left-out", "not run")]
    lines = ["## Stages", ""]
    lines.append(f"**Failed proofs: {names_of(bad)}.**" if bad else "Every proof that ran holds." if proofs else "Nothing was proven.")
    if open_:
        lines.append(f"Not proven here: {names_of(open_)}.")
    return lines + [""] + table(("part", "stage", "kind", "status", "s", "detail"), rows)


def tests_section(results):
    """What did not pass, by name."""
    if not results["tests"] and not results["conformance"]:
        return []
    lines = ["## Tests and wrappers", ""]
    if results["tests"]:
        lines += table(("tests of", "passed", "of"), [(room, t["ok"], t["of"]) for room, t in results["tests"].items()])
    others = [(room, how, name) for room, t in results["tests"].items() for how in sorted(t["others"]) for name in t["others"][how]]
    if others:
        lines += table(("tests of", "status", "test"), others)
    if results["conformance"]:
        lines += [f"simt_conformance: {results['conformance']['summary']}.", ""]
        bad = [(b["record"], b["why"]) for b in results["conformance"]["not_agreeing"]]
        if bad:
            lines += table(("record", ""), bad)
    return lines


def ops_section(results):
    report = results["ops"]
    if not report:
        return ["## Ops", "", "Not measured.", ""]
    limits = report["limits"]
    lines = ["## Ops", "", f"Limits, measured first: {limits['memory_gbytes_per_s']:,.0f} GB/s copied (read + written), "
             f"{limits['gemm_gflops'] * 1e-3:,.1f} TFLOP/s in {report['dtype']} products.", ""]
    rows = [(op["name"], op["shape"], microseconds(op["seconds"]), microseconds(op["least"]),
             f"{100 * op['share']:.0f} % of {'copying' if op['limit'] == 'memory' else 'products'}") for op in report["ops"]]
    return lines + table(("op", "shape", "median us", "least us", "of its limit"), rows)


def attention_section(results):
    ours = (results["attention"] or {}).get("attention", [])
    theirs = {(r["model"], r["T"], r["direction"], r["normaliser"]): r for r in (results["cudnn"] or {}).get("attention", [])}
    torch = {(r["model"], r["T"], r["direction"]): r["seconds"] for r in (results["pytorch"] or {}).get("attention", [])}
    if not ours and not theirs:
        return ["## Attention", "", "Not measured.", ""]
    rows = []
    for row in ours or theirs.values():
        other = theirs.get((row["model"], row["T"], row["direction"], row["normaliser"]), {})
        sdpa = torch.get((row["model"], row["T"], row["direction"])) if row["normaliser"] == "softmax" else None
        share = f"{100 * row['share']:.0f} %" if "share" in row else "—"
        rows.append((row["model"], f"{row['B']} x {row['T']} x {row['H']} x {row['D']}", row["normaliser"], row["direction"],
                     microseconds(row["seconds"]), share, microseconds(row.get("mma_seconds")), microseconds(other.get("cudnn_deterministic")),
                     microseconds(other.get("cudnn_default")), microseconds(sdpa), "**differs**" if other.get("disagrees") else ""))
    lines = ["## Attention", "", "bf16, causal; microseconds; the share is of the product rate, causal operations counted.", ""]
    return lines + table(("heads of", "B x T x H x D", "normaliser", "pass", "ours", "share", "ours on mma.sync", "cuDNN deterministic", "cuDNN default",
                          "PyTorch SDPA", "values"), rows)


def steps_section(results):
    if not results["steps"]:
        return ["## Training step", "", "Not measured.", ""]
    theirs = {s["batch"]: s for s in (results["pytorch"] or {}).get("steps", [])}
    rows = []
    for s in results["steps"]:
        other = theirs.get(s["batch"], {})
        rows.append((f"{s['batch']} x {s['seq']}", f"{s['step_seconds'] * 1e3:,.1f}", f"{s['tokens_per_s']:,.0f}",
                     f"{100 * s['mfu']:.1f} %" if "mfu" in s else "—", f"{100 * s['share']:.1f} %",
                     f"{100 * s['launch_gaps']:.1f} %" if "launch_gaps" in s else "—", f"{s['peak_bytes'] / 2**30:.1f}",
                     f"{s['planned_bytes'] / 2**30:.1f}",
                     f"{other['tokens_per_s']:,.0f}" if "tokens_per_s" in other else other.get("error", "—"),
                     f"{s['tokens_per_s'] / other['tokens_per_s']:.2f}x" if "tokens_per_s" in other else "—"))
    first = results["steps"][0]
    lines = ["## Training step", "", f"{first['shape']}, {first['dtype']}, {first['flops_per_token']:.4g} FLOP a token (PaLM's formula); "
             "MFU of 989 TFLOP/s.", ""]
    return lines + table(("batch", "ms", "tokens/s", "MFU", "of product rate", "launch gaps", "peak GiB", "planned GiB",
                          "PyTorch tokens/s", "ratio"), rows)


def losses_of(lines):
    return [(row["step"], row["loss"]) for row in lines if "loss" in row]


def ablation_section(results):
    curves = {arm: losses_of(lines) for arm, lines in results["ablation"].items()}
    curves = {arm: curve for arm, curve in curves.items() if curve}
    if not curves:
        return ["## Ablation", "", "Not measured.", ""]
    last = max(curve[-1][0] for curve in curves.values())
    marks = sorted({1, *(max(1, last * k // 6) for k in range(1, 7))})
    rows = []
    for arm, curve in curves.items():
        by_step = dict(curve)
        rows.append((arm, *(f"{by_step[m]:.3f}" if m in by_step else "—" for m in marks)))
    return ["## Ablation", "", f"Loss at steps of {last}, configs/ablation; the whole curves: losses.svg.", "",
            *table(("arm", *marks), rows), "![losses](losses.svg)", ""]


def svg(curves):
    """Loss over steps, one line an arm."""
    width, height, left, bottom = 720, 400, 56, 36
    points = [p for curve in curves.values() for p in curve if math.isfinite(p[1])]
    if not points:
        return None
    last, low, high = max(p[0] for p in points), min(p[1] for p in points), max(p[1] for p in points)
    span = high - low or 1.0
    x = lambda step: left + (width - left - 12) * step / last
    y = lambda loss: 12 + (height - bottom - 12) * (high - loss) / span
    colours = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             f'<path d="M{left} 12V{height - bottom}H{width - 12}" fill="none" stroke="#888"/>']
    for k in range(5):
        loss, step = low + span * k / 4, last * k // 4
        parts.append(f'<text x="{left - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>')
        parts.append(f'<text x="{x(step):.1f}" y="{height - bottom + 18}" text-anchor="middle">{step}</text>')
    for i, (arm, curve) in enumerate(curves.items()):
        line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in curve if math.isfinite(loss))
        colour = colours[i % len(colours)]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        parts.append(f'<text x="{width - 120}" y="{28 + 16 * i}" fill="{colour}">{arm}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def markdown(results):
    machine = results["machine"]
    bundle = machine["bundle"] or {}
    lines = [f"# GPU check: {machine['gpu'] or 'unknown device'}, {results['date']}", "",
             f"Commit {bundle.get('commit', 'unknown')}, nvcc {bundle.get('nvcc') or 'unknown'}, driver {machine['driver'] or 'unknown'}; "
             f"{machine['backend'] or 'backend unknown'}; host: {machine['processor'] or 'unknown'}.", "", *results["notes"].splitlines(), *([""] if results["notes"] else []),
             "## Targets", ""]
    marks = {True: "met", False: "**missed**", None: "—"}
    lines += table(("what", "target", "measured", ""), [(w, t, m, marks[v]) for w, t, m, v in targets(results)])
    for section in (proofs_section, tests_section, ops_section, attention_section, steps_section, ablation_section):
        lines += section(results)
    return "\n".join(lines)


def write(out):
    results = collect(out)
    if not results["stages"]:
        print(f"gpu_report: {out} has no part-1 or part-2 of gpu_check.sh", file=sys.stderr)
        return 2
    results["targets"] = [dict(zip(("what", "target", "measured", "met"), row)) for row in targets(results)]
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "results.md").write_text(markdown(results))
    drawing = svg({arm: losses_of(lines) for arm, lines in results["ablation"].items()})
    if drawing:
        (out / "losses.svg").write_text(drawing)
    print(out / "results.md")
    return 0


def compare(a, b, tolerance):
    """0 when every step's loss and gradient norm agree to a relative tolerance; 0 asks for equal text."""
    runs = [[(r["step"], r["loss"], r["grad_norm"]) for r in read_lines(pathlib.Path(run) / "metrics.jsonl") if "loss" in r]
            for run in (a, b)]
    if not runs[0] or len(runs[0]) != len(runs[1]):
        print(f"{a} has {len(runs[0])} steps, {b} {len(runs[1])}")
        return 1
    worst = 0.0
    for x, y in zip(*runs):
        # Gradient norms are sums of squares over everything and react an order of magnitude sooner than losses.
        for value, other, allowed in ((x[1], y[1], tolerance), (x[2], y[2], 10 * tolerance)):
            difference = abs(value - other) / max(abs(value), 1e-30)
            if not difference <= allowed:
                print(f"step {x[0]}: {value!r} and {other!r} differ by {difference:.3g}, more than {allowed:.3g}")
                return 1
            worst = max(worst, difference)
    print(f"{len(runs[0])} steps agree, worst relative difference {worst:.3g}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write").add_argument("out", type=pathlib.Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("a")
    comparing.add_argument("b")
    comparing.add_argument("--tolerance", type=float, required=True)
    options = parser.parse_args()
    return write(options.out) if options.command == "write" else compare(options.a, options.b, options.tolerance)


if __name__ == "__main__":
    sys.exit(main())

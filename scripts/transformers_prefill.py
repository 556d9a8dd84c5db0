#!/usr/bin/env python3
"""The yardstick for bench_streaming's prefill: the same losses of the same model by PyTorch and transformers.

    transformers_prefill.py MODEL [--dtype f32|bf16] [--length 1024] [--sequences 8] [--threads 2] [--json OUT.json]

MODEL is a Hugging Face folder. Each sequence of random tokens goes through the model in one pass and every token gets its loss,
which is what a plain evaluation does. The first pass is not timed. As in pytorch_baseline.py, an allocator that keeps its memory is
chosen, without which page faults cost PyTorch up to half its speed. Exit code 4 when torch or transformers is missing.
"""
import argparse
import json
import os
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    import transformers
except ImportError as error:
    print(f"transformers_prefill: {error}", file=sys.stderr)
    sys.exit(4)

ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.arena_max=1"


def measure(options):
    torch.set_num_threads(options.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
    torch.manual_seed(1)
    tokens = torch.randint(0, model.config.vocab_size, (options.sequences + 1, options.length + 1))
    with torch.inference_mode():
        for i, row in enumerate(tokens):
            if i == 1:
                begin = time.perf_counter()
            logits = model(row[None, :-1], use_cache=False).logits[0]
            F.cross_entropy(logits.float(), row[1:], reduction="none")
    seconds = time.perf_counter() - begin
    return {"model": model.config.model_type, "dtype": options.dtype, "length": options.length, "threads": options.threads,
            "torch": torch.__version__, "transformers": transformers.__version__,
            "attention": model.config._attn_implementation, "prefill_tokens_per_s": options.sequences * options.length / seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    if "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"GLIBC_TUNABLES": ALLOCATOR})
    text = json.dumps(measure(options), indent=2)
    print(text)
    if options.json:
        with open(options.json, "w") as out:
            out.write(text + "\n")


if __name__ == "__main__":
    main()

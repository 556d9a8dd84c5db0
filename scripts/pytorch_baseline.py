#!/usr/bin/env python3
"""The yardstick for bench_ops and bench_train_step: the same model, step and attention in PyTorch.

    pytorch_baseline.py --json OUT.json [--batches 8,16,32,64] [--seq 2048] [--budget SECONDS] [--smoke]
    pytorch_baseline.py --device cpu --shape 70m --batches 2 --seq 1024 --dtype f32 --threads 2

Model: GPT-NeoX as Pythia is (parallel residual, rotary over a quarter of each head, untied head). Step: bf16 autocast over f32
weights (or f32), scaled_dot_product_attention, cross-entropy, clipping to norm 1, fused AdamW; on a GPU all of it under
torch.compile, on a CPU eager, which is faster there. On a CPU page faults on temporaries cost PyTorch up to half its speed unless
the allocator keeps memory and takes huge pages, so it is run again under GLIBC_TUNABLES that make it do both. Prints JSON to
standard output when no --json is given. Exit code 4 when torch, or a GPU it can use, is missing.
"""
import argparse
import json
import math
import os
import statistics
import sys
import time

try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
except ImportError:
    print("pytorch_baseline: python3 has no torch", file=sys.stderr)
    sys.exit(4)

PEAK = 989e12  # dense bf16 of an H100 or H200 SXM
SHAPES = {"14m": dict(layers=6, c=128, heads=4), "70m": dict(layers=6, c=512, heads=8), "160m": dict(layers=12, c=768, heads=12),
          "410m": dict(layers=24, c=1024, heads=16)}
ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.arena_max=1"


def rotate(x, cos, sin, dims):
    """The first `dims` of every head turn, NeoX's way. x [B,H,T,D]."""
    turned, rest = x[..., :dims], x[..., dims:]
    half = dims // 2
    other = torch.cat((-turned[..., half:], turned[..., :half]), dim=-1)
    return torch.cat((turned * cos + other * sin, rest), dim=-1)


class Block(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads, self.dims = heads, c // heads // 4
        self.input_layernorm, self.post_attention_layernorm = nn.LayerNorm(c), nn.LayerNorm(c)
        self.query_key_value, self.dense = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.dense_h_to_4h, self.dense_4h_to_h = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        qkv = self.query_key_value(self.input_layernorm(x)).view(b, t, self.heads, 3, c // self.heads)
        q, k, v = (part.squeeze(3).transpose(1, 2) for part in qkv.split(1, dim=3))
        q, k = (rotate(z, cos, sin, self.dims).to(v.dtype) for z in (q, k))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        a = self.dense(a.transpose(1, 2).reshape(b, t, c))
        m = self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(self.post_attention_layernorm(x)), approximate="tanh"))
        return x + a + m


class NeoX(nn.Module):
    def __init__(self, layers=12, c=768, heads=12, vocabulary=50304, length=2048):
        super().__init__()
        self.embed_in = nn.Embedding(vocabulary, c)
        self.layers = nn.ModuleList(Block(c, heads) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(c)
        self.embed_out = nn.Linear(c, vocabulary, bias=False)
        dims = c // heads // 4
        angles = torch.outer(torch.arange(length).double(), 10000.0 ** (-torch.arange(0, dims, 2).double() / dims))
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=math.sqrt(2 / (5 * c)))

    def forward(self, ids, targets):
        x = self.embed_in(ids)
        for layer in self.layers:
            x = layer(x, self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        logits = self.embed_out(self.final_layer_norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.view(-1))


def flops_per_token(model, layers, c, length):
    """PaLM's formula: 6 (parameters - input embedding) + 12 layers * width * length."""
    parameters = sum(p.numel() for p in model.parameters()) - model.embed_in.weight.numel()
    return 6 * parameters + 12 * layers * c * length


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


def time_steps(name, batch, length, device, dtype, smoke, seconds):
    shape = dict(layers=2, c=32, heads=2, vocabulary=128, length=length) if smoke else dict(SHAPES[name], length=length)
    torch.manual_seed(1234)
    model = NeoX(**shape).to(device)
    flops = flops_per_token(model, len(model.layers), model.embed_in.weight.shape[1], length)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    compiled = torch.compile(model) if device == "cuda" else model
    ids = torch.randint(model.embed_in.weight.shape[0], (batch, length + 1), device=device)

    def step():
        with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = compiled(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss

    begin = time.perf_counter()
    for _ in range(3):
        loss = step()
    synchronise(device)
    warm_up = time.perf_counter() - begin
    times, begin = [], time.perf_counter()
    while len(times) < 10 and time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        loss = step()
        synchronise(device)
        times.append(time.perf_counter() - start)
    step_seconds = statistics.median(times)
    rate = batch * length / step_seconds
    result = {"shape": name, "dtype": dtype, "batch": batch, "seq": length, "flops_per_token": flops, "step_seconds": step_seconds, "tokens_per_s": rate,
              "model_gflops": flops * rate * 1e-9, "warm_up_seconds": warm_up, "loss": float(loss.detach())}
    if device == "cuda":
        result["mfu"] = flops * rate / PEAK
        result["peak_bytes"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return result


def median_seconds(run, device, seconds):
    """As bench/measure.cpp takes it: the level-2 cache is emptied before every run."""
    run()
    if device == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    flush = torch.empty(256 << 20, dtype=torch.uint8, device=device)
    times, spent = [], 0.0
    while spent < seconds and len(times) < 200 or len(times) < 3:
        flush.zero_()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        run()
        events[1].record()
        torch.cuda.synchronize()
        times.append(events[0].elapsed_time(events[1]) * 1e-3)
        spent += times[-1]
    return statistics.median(times)


def time_attention(device, smoke, deadline):
    """The shapes of bench/attention_case.h, a row at a time."""
    shapes = [("smoke", 1, 32, 2, 16)] if smoke else [
        (name, 32768 // t, t, h, d) for t in (2048, 512, 8192, 32768)
        for name, h, d in (("pythia-160m", 12, 64), ("pythia-410m", 16, 64), ("head-128", 16, 128), ("pythia-1b", 8, 256))]
    for name, b, t, h, d in shapes:
        if time.monotonic() > deadline:
            return
        q, k, v = (torch.randn(b, t, h, d, device=device, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for _ in range(3))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        d_out = torch.randn_like(out)
        with torch.no_grad():
            forward = median_seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), device, 0.2)
        backward = median_seconds(lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True), device, 0.2)
        for direction, seconds in (("forward", forward), ("backward", backward)):
            yield {"model": name, "B": b, "T": t, "H": h, "D": d, "direction": direction, "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json")
    parser.add_argument("--batches", default="8,16,32,64")
    parser.add_argument("--seq", type=int, default=2048)
    parser.add_argument("--budget", type=float, default=1e9, help="seconds in all; what does not fit is left out")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="160m")
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--threads", type=int, default=0, help="on a CPU; 0: all")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on the CPU: shows that it works")
    options = parser.parse_args()
    device = "cpu" if options.smoke else options.device
    if device == "cuda" and not torch.cuda.is_available():
        print("pytorch_baseline: torch finds no GPU; --device cpu times a CPU", file=sys.stderr)
        return 4
    if device == "cpu":
        if "GLIBC_TUNABLES" not in os.environ:
            os.environ["GLIBC_TUNABLES"] = ALLOCATOR
            os.execv(sys.executable, [sys.executable, *sys.argv])
        if options.threads:
            torch.set_num_threads(options.threads)
    deadline = time.monotonic() + options.budget
    torch.set_float32_matmul_precision("high")
    report = {"torch": torch.__version__, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
              "steps": [], "attention": [], "left_out": []}

    def save():
        text = json.dumps(report, indent=2)
        if options.json:
            with open(options.json, "w") as file:
                file.write(text + "\n")
        return text

    # Steps first, they matter more; after every figure a run that is stopped leaves what it has.
    for batch in [2] if options.smoke else [int(b) for b in options.batches.split(",")]:
        if time.monotonic() > deadline:
            report["left_out"].append(f"step of {batch} x {options.seq}")
            continue
        try:
            length, seconds = 32 if options.smoke else options.seq, 5 if device == "cuda" else 20
            report["steps"].append(time_steps(options.shape, batch, length, device, options.dtype, options.smoke, seconds))
        except torch.OutOfMemoryError as error:
            report["steps"].append({"batch": batch, "seq": options.seq, "error": "out of memory: " + str(error).split(".")[0]})
        if device == "cuda":
            torch.cuda.empty_cache()
            torch._dynamo.reset()  # otherwise the next batch is compiled for shapes that vary
        save()
    if device == "cuda" or options.smoke:
        for row in time_attention(device, options.smoke, deadline):
            report["attention"].append(row)
            save()
    text = save()
    if not options.json:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

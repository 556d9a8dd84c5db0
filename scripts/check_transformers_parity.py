#!/usr/bin/env python3
"""Compares Ballast with transformers: logits, losses, gradients and token ids, in both directions.

    python3 -m venv venv && venv/bin/pip install torch transformers safetensors numpy
    venv/bin/python scripts/check_transformers_parity.py build/cpu/bin/ballast [TEXT_FILE]

Ours to theirs: trains tiny models with the binary, exports them, loads them with AutoModelForCausalLM and
AutoTokenizer. Theirs to ours: models made by transformers, saved in every way it has, read by `ballast eval logits`.
Everything happens in a temporary folder. The figures are relative errors ||ours - theirs|| / ||theirs|| in f32; a row
above 1e-4 fails the check (exit code 1). Results that count: docs/results/transformers-parity.md.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

TOLERANCE = 1e-4
LICENSE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "LICENSE")
STEPS = 60
CONFIG = """
[model]
vocab_size = 640
hidden_size = 64
num_layers = 3
num_heads = 4
max_position_embeddings = 96
[data]
train = "train.h5"
tokenizer = "tokenizer.json"
[train]
sequence_length = 96
global_batch = 4
dtype = "f32"
[optimizer]
learning_rate = 5e-3
min_learning_rate = 5e-4
[checkpoint]
every = 0
log_spaced = false
[sample]
every = 0
"""

# name, settings of the model, arguments of the export
EXPORTED = [
    ("parallel residual", [], []),
    ("sequential residual", ["model.parallel_residual=false"], []),
    ("tied embeddings", ["model.tie_word_embeddings=true"], []),
    ("erf GELU", ["model.hidden_act=gelu_erf"], []),
    ("all dims rotate, base 500", ["model.rotary_pct=1", "model.rotary_base=500"], []),
    ("narrow feed-forward", ["model.intermediate_size=80"], []),
    ("2 sink tokens", ["model.num_sink_tokens=2"], []),
    ("2 sink tokens, tied, sequential",
     ["model.num_sink_tokens=2", "model.tie_word_embeddings=true", "model.parallel_residual=false"], []),
    ("exported as bf16", [], ["--dtype", "bf16"]),
    ("exported in shards of 100 kB", [], ["--max-shard-gb", "0.0001"]),
    ("exported in shards, bf16, tied", ["model.tie_word_embeddings=true"],
     ["--dtype", "bf16", "--max-shard-gb", "0.0001"]),
    ("--hidden-act gelu", [], ["--hidden-act", "gelu"]),
]

# What transformers would compute wrongly must not load there.
REFUSED = [("off_by_one", ["model.normaliser=off_by_one"]), ("sink_logit", ["model.normaliser=sink_logit"]),
           ("no positions", ["model.position=none"])]

# name, what differs in GPTNeoXConfig, dtype of the file, shards
IMPORTED = [
    ("f32", {}, torch.float32, None),
    ("f16", {}, torch.float16, None),
    ("bf16", {}, torch.bfloat16, None),
    ("f32 in shards of 50 kB", {}, torch.float32, "50KB"),
    ("bf16 in shards of 50 kB, tied", {"tie_word_embeddings": True}, torch.bfloat16, "50KB"),
    ("sequential, gelu_new", {"use_parallel_residual": False, "hidden_act": "gelu_new"}, torch.float32, None),
    ("all dims rotate, base 300", {"rotary_pct": 1.0, "rotary_emb_base": 300}, torch.float32, None),
]

failures = []


def ballast(*arguments, fails=False):
    done = subprocess.run([BINARY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if (done.returncode != 0) != fails:
        sys.exit(f"ballast {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return done.stderr if fails else done.stdout


def relative_error(ours, theirs):
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def expect(name, good, detail):
    print(f"{name:<52} {detail}{'' if good else '   FAILED'}", flush=True)
    if not good:
        failures.append(name)


def our_outputs(model, ids):
    save_file({"input_ids": ids.astype(np.int32)}, "ids.safetensors")
    ballast("eval", "logits", model, "--ids", "ids.safetensors", "--out", "out.safetensors", "--grads")
    return load_file("out.safetensors")


def their_outputs(model, ids, sink_ids):
    """Sink tokens go in front; neither they nor the first token, which the last of them predicts, count in the loss."""
    n = len(sink_ids)
    batch = torch.tensor(np.concatenate([np.tile(sink_ids, (len(ids), 1)), ids], axis=1).astype(np.int64))
    labels = batch.clone()
    if n > 0:
        labels[:, :n + 1] = -100
    model.zero_grad()
    out = model(input_ids=batch, labels=labels)
    out.loss.backward()
    gradients = {"grad." + name.replace("lm_head.", "embed_out."): p.grad.numpy()
                 for name, p in model.named_parameters()}
    return {"logits": out.logits[:, n:].detach().numpy(), "loss": out.loss.detach().numpy(), **gradients}


def compare(name, ours, theirs):
    if set(ours) != set(theirs):
        return expect(name, False, f"tensors differ: {sorted(set(ours) ^ set(theirs))}")
    errors = {key: relative_error(ours[key], theirs[key]) for key in theirs}
    worst = max((key for key in errors if key.startswith("grad.")), key=errors.get)
    good = all(e <= TOLERANCE for e in errors.values())
    expect(name, good, f"logits {errors['logits']:.1e}  loss {errors['loss']:.1e}  worst gradient {errors[worst]:.1e}"
                       f" ({worst[len('grad.'):]})")


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def train(run, settings):
    overrides = [f"train.steps={STEPS}", *settings]
    ballast("train", "config.toml", "--out", run, *(word for s in overrides for word in ("--set", s)))


def check_exports(ids):
    for i, (name, settings, arguments) in enumerate(EXPORTED):
        run, folder = f"run{i}", f"exported{i}"
        train(run, settings)
        ballast("export", run, folder, *arguments)
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        first, n = config["ballast_sink_token_id"], config["ballast_num_sink_tokens"]
        theirs = their_outputs(load(folder), ids, np.arange(first, first + n))
        if "--dtype" not in arguments and "--hidden-act" not in arguments:
            compare(name, our_outputs(run, ids), theirs)
        compare(f"{name}, the folder read back", our_outputs(folder, ids), theirs)


def check_refusals():
    for i, (name, settings) in enumerate(REFUSED):
        train(f"refused{i}", settings)
        ballast("export", f"refused{i}", f"refused-export{i}")
        try:
            load(f"refused-export{i}")
            expect(f"{name} is refused by transformers", False, "it loaded")
        except (ValueError, KeyError) as error:
            expect(f"{name} is refused by transformers", True, str(error).split("\n")[0][:90])
    train("alibi", ["model.position=alibi"])
    message = ballast("export", "alibi", "alibi-export", fails=True)
    expect("ALiBi is refused by export", "ALiBi" in message and not os.path.exists("alibi-export"), message.strip())


def check_tokenizer(text):
    folder = "exported6"  # with sink tokens
    tokenizer = AutoTokenizer.from_pretrained(folder)
    samples = {"the text": text,
               "spaces, accents, scripts":
                   "a  b\t\tc\n\n  d\u00e9ja\u0301 vu \u4e2d\u6587 \U0001F600 don't 12345 \u00bd",
               "special tokens": "one<|endoftext|>two <|endoftext|> <|padding|>"}
    for name, sample in samples.items():
        with open("sample.txt", "w", encoding="utf-8", newline="") as file:
            file.write(sample)
        ours = [int(x) for x in ballast("tokenizer", "encode", "-t", "tokenizer.json", "sample.txt").split()]
        theirs = tokenizer.encode(sample, add_special_tokens=False)
        decoded = tokenizer.decode(theirs, clean_up_tokenization_spaces=False)
        expect(f"AutoTokenizer on {name}", ours == theirs, f"{len(theirs)} ids; {tokenizer.__class__.__name__}; "
               f"decodes to {'the same text' if decoded == sample else 'NFC of it'}")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        first = json.load(file)["ballast_sink_token_id"]
    sinks = tokenizer.convert_tokens_to_ids(["<|sink_0|>", "<|sink_1|>"])
    expect("the sink tokens' names", sinks == [first, first + 1],
           f"ids {first}, {first + 1}; end of text {tokenizer.eos_token!r} is id {tokenizer.eos_token_id}")


def check_imports(ids):
    for i, (name, changes, dtype, shard_size) in enumerate(IMPORTED):
        torch.manual_seed(i)
        config = GPTNeoXConfig(**{"vocab_size": 640, "hidden_size": 48, "intermediate_size": 160,
                                  "num_hidden_layers": 3, "num_attention_heads": 3, "max_position_embeddings": 96,
                                  "rotary_pct": 0.25, "hidden_act": "gelu", "tie_word_embeddings": False,
                                  "initializer_range": 0.15, **changes})
        folder = f"theirs{i}"
        options = {"max_shard_size": shard_size} if shard_size else {}
        GPTNeoXForCausalLM(config).to(dtype).save_pretrained(folder, **options)
        files = sum(name.endswith(".safetensors") for name in os.listdir(folder))
        compare(f"{name} ({files} file{'s' if files > 1 else ''})", our_outputs(folder, ids),
                their_outputs(load(folder), ids, np.zeros(0, np.int64)))


def main():
    text_file = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else LICENSE)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {ballast('--version').strip()}")
    with open(text_file, encoding="utf-8", newline="") as file:
        text = file.read(1 << 20)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("text.txt", "w", encoding="utf-8", newline="") as file:
            file.write(text)
        ballast("tokenizer", "train", "-o", "tokenizer.json", "--vocab-size", "600", "text.txt")
        ballast("data", "prepare", "-t", "tokenizer.json", "-o", "train.h5", "text.txt")
        with open("config.toml", "w", encoding="utf-8") as file:
            file.write(CONFIG)
        ids = np.random.default_rng(20261123).integers(0, 600, (3, 61))
        check_exports(ids)
        check_refusals()
        check_tokenizer(text)
        check_imports(ids)
        os.chdir("/")
    if failures:
        sys.exit(f"{len(failures)} checks failed: {'; '.join(failures)}")
    print("all equal")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    BINARY = os.path.abspath(sys.argv[1])
    main()

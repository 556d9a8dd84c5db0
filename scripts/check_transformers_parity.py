#!/usr/bin/env python3
"""Compares Ballast with transformers: logits, losses, gradients and token ids, in both directions.

    python3 -m venv venv && venv/bin/pip install torch transformers safetensors numpy
    venv/bin/python scripts/check_transformers_parity.py build/cpu/bin/ballast [TEXT_FILE] [--model FOLDER]

Ours to theirs: trains tiny models with the binary, exports them, loads them with AutoModelForCausalLM and
AutoTokenizer. Theirs to ours: models made by transformers, saved in every way it has, read by `ballast eval logits`.
With --model, a real Hugging Face folder too (SmolLM2 of scripts/smollm2.sh, say): read as it is, and exported again.
Everything happens in a temporary folder. The figures are relative errors ||ours - theirs|| / ||theirs|| in f32; a row
above 1e-4 fails the check (exit code 1; 4: a package is missing). Results that count: docs/results/transformers-parity.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    import transformers
    from safetensors.numpy import load_file, save_file
    from transformers import (AutoModelForCausalLM, AutoTokenizer, FalconConfig, GPTNeoXConfig, LlamaConfig,
                              MistralConfig, MptConfig, Qwen2Config)
except ImportError as error:
    print(f"check_transformers_parity: python3 has no {error.name}; its head says what to install", file=sys.stderr)
    sys.exit(4)

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

LLAMA = ["model.family=llama", "model.norm=rmsnorm", "model.norm_bias=false", "model.hidden_act=swiglu",
         "model.intermediate_size=176", "model.num_key_value_heads=2", "model.qkv_bias=false",
         "model.attention_out_bias=false", "model.mlp_bias=false", "model.parallel_residual=false", "model.rotary_pct=1"]
YARN = [f"model.rope_scaling.{key}" for key in ("kind=yarn", "factor=4", "original_max_position_embeddings=24")]
LLAMA3 = [f"model.rope_scaling.{key}" for key in ("kind=llama3", "factor=8", "original_max_position_embeddings=32")]
MPT = ["model.family=mpt", "model.norm_bias=false", "model.hidden_act=gelu_erf", "model.qkv_bias=false",
       "model.attention_out_bias=false", "model.mlp_bias=false", "model.parallel_residual=false",
       "model.tie_word_embeddings=true", "model.position=alibi"]
FALCON = ["model.family=falcon", "model.num_key_value_heads=1", "model.shared_norm=true", "model.hidden_act=gelu_erf",
          "model.qkv_bias=false", "model.attention_out_bias=false", "model.mlp_bias=false",
          "model.tie_word_embeddings=true", "model.rotary_pct=1"]

# name, settings of the model, arguments of the export
EXPORTED = [
    ("parallel residual", [], []),
    ("sequential residual", ["model.parallel_residual=false"], []),
    ("tied embeddings", ["model.tie_word_embeddings=true"], []),
    ("erf GELU", ["model.hidden_act=gelu_erf"], []),
    ("all dims rotate, base 500", ["model.rotary_pct=1", "model.rotary_base=500"], []),
    ("rope scaled linearly", ["model.rope_scaling.kind=linear", "model.rope_scaling.factor=2"], []),
    ("narrow feed-forward", ["model.intermediate_size=80"], []),
    ("2 sink tokens", ["model.num_sink_tokens=2"], []),
    ("2 sink tokens, tied, sequential",
     ["model.num_sink_tokens=2", "model.tie_word_embeddings=true", "model.parallel_residual=false"], []),
    ("exported as bf16", [], ["--dtype", "bf16"]),
    ("exported in shards of 100 kB", [], ["--max-shard-gb", "0.0001"]),
    ("exported in shards, bf16, tied", ["model.tie_word_embeddings=true"],
     ["--dtype", "bf16", "--max-shard-gb", "0.0001"]),
    ("--hidden-act gelu", [], ["--hidden-act", "gelu"]),
    ("Llama, grouped heads", LLAMA, []),
    ("Llama, tied, wide heads, 2 sink tokens",
     LLAMA + ["model.tie_word_embeddings=true", "model.head_dim=32", "model.num_sink_tokens=2"], []),
    ("Llama with biases, bf16 in shards", LLAMA + [f"model.{b}=true" for b in ("qkv_bias", "attention_out_bias", "mlp_bias")],
     ["--dtype", "bf16", "--max-shard-gb", "0.0001"]),
    ("Llama, yarn", LLAMA + YARN, []),
    ("Llama, llama3", LLAMA + LLAMA3, []),
    ("Mistral, window of 17", LLAMA + ["model.attention_span=16"], []),
    ("Qwen2", LLAMA + ["model.qkv_bias=true"], []),
    ("Qwen2, windows above the first layer", LLAMA + ["model.qkv_bias=true", "model.attention_span=[0,9,9]"], []),
    ("MPT", MPT, []),
    ("MPT, clipped", MPT + ["model.clip_qkv=0.4"], []),
    ("Falcon-7B", FALCON, []),
    ("Falcon-40B", FALCON + ["model.num_key_value_heads=2", "model.shared_norm=false"], []),
    ("Falcon-40B, one norm, linear",
     FALCON + ["model.num_key_value_heads=2", "model.rope_scaling.kind=linear", "model.rope_scaling.factor=2"], []),
    ("Falcon, sequential with biases",
     FALCON + ["model.parallel_residual=false", "model.shared_norm=false"] +
     [f"model.{b}=true" for b in ("qkv_bias", "attention_out_bias", "mlp_bias")], []),
]

# What transformers would compute wrongly must not load there.
REFUSED = [("off_by_one", ["model.normaliser=off_by_one"]), ("sink_logit", ["model.normaliser=sink_logit"]),
           ("no positions", ["model.position=none"]), ("windows of GPT-NeoX", ["model.attention_span=8"]),
           ("windows of a Llama with biases",
            LLAMA + ["model.attention_span=16"] + [f"model.{b}=true" for b in ("qkv_bias", "attention_out_bias", "mlp_bias")]),
           ("Mistral's windows and sink tokens", LLAMA + ["model.attention_span=16", "model.num_sink_tokens=2"]),
           ("another largest ALiBi bias of MPT", MPT + ["model.alibi_bias_max=16"]),
           ("gated heads of Llama", LLAMA + ["model.gate=headwise"]), ("sink logits of MPT", MPT + ["model.normaliser=sink_logit"])]

COMMON = {"vocab_size": 640, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3,
          "max_position_embeddings": 96, "initializer_range": 0.15}
NEOX = {**COMMON, "intermediate_size": 160, "rotary_pct": 0.25, "hidden_act": "gelu", "tie_word_embeddings": False}
GROUPED = {**COMMON, "intermediate_size": 112, "num_attention_heads": 6, "num_key_value_heads": 2}
YARN_PARAMETERS = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 24}

# name, kind and settings of the config, dtype of the file, shards
IMPORTED = [
    ("f32", GPTNeoXConfig, NEOX, torch.float32, None),
    ("f16", GPTNeoXConfig, NEOX, torch.float16, None),
    ("bf16", GPTNeoXConfig, NEOX, torch.bfloat16, None),
    ("f32 in shards of 50 kB", GPTNeoXConfig, NEOX, torch.float32, "50KB"),
    ("bf16 in shards of 50 kB, tied", GPTNeoXConfig, {**NEOX, "tie_word_embeddings": True}, torch.bfloat16, "50KB"),
    ("sequential, gelu_new", GPTNeoXConfig, {**NEOX, "use_parallel_residual": False, "hidden_act": "gelu_new"},
     torch.float32, None),
    ("all dims rotate, base 300", GPTNeoXConfig, {**NEOX, "rotary_pct": 1.0, "rotary_emb_base": 300}, torch.float32,
     None),
    ("Llama, f16 in shards", LlamaConfig, GROUPED, torch.float16, "50KB"),
    ("Llama, head_dim 24, biases", LlamaConfig,
     {**GROUPED, "head_dim": 24, "attention_bias": True, "mlp_bias": True, "intermediate_size": 112}, torch.float32, None),
    ("Llama, yarn", LlamaConfig, {**GROUPED, "rope_parameters": YARN_PARAMETERS}, torch.float32, None),
    ("Llama, dynamic, beyond its positions", LlamaConfig,
     {**GROUPED, "max_position_embeddings": 24, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
     torch.float32, None),
    ("Mistral, window of 11", MistralConfig, {**GROUPED, "sliding_window": 11}, torch.float32, None),
    ("Qwen2, windows from layer 1", Qwen2Config,
     {**GROUPED, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}, torch.float32, None),
    ("MPT", MptConfig, {"vocab_size": 640, "d_model": 48, "n_heads": 3, "n_layers": 3, "max_seq_len": 96,
                        "initializer_range": 0.15}, torch.float32, None),
    ("Falcon-7B, bf16", FalconConfig, COMMON, torch.bfloat16, None),
    ("Falcon-40B", FalconConfig, {**COMMON, "num_attention_heads": 6, "num_kv_heads": 2, "new_decoder_architecture": True},
     torch.float32, None),
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
    neox = model.config.model_type == "gpt_neox"  # its head is embed_out in the files of transformers 4
    gradients = {"grad." + (name.replace("lm_head.", "embed_out.") if neox else name): p.grad.numpy()
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
        first, n = config["ballast_sink_token_id"] or 0, config["ballast_num_sink_tokens"]
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
    folder = "exported" + str(next(i for i, row in enumerate(EXPORTED) if row[0] == "2 sink tokens"))
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
    for i, (name, kind, settings, dtype, shard_size) in enumerate(IMPORTED):
        torch.manual_seed(i)
        folder = f"theirs{i}"
        options = {"max_shard_size": shard_size} if shard_size else {}
        AutoModelForCausalLM.from_config(kind(**settings)).to(dtype).save_pretrained(folder, **options)
        files = sum(name.endswith(".safetensors") for name in os.listdir(folder))
        compare(f"{name} ({files} file{'s' if files > 1 else ''})", our_outputs(folder, ids),
                their_outputs(load(folder), ids, np.zeros(0, np.int64)))


def check_real_model(folder):
    ids = np.random.default_rng(20261128).integers(0, 40000, (1, 97))
    theirs = their_outputs(load(folder), ids, np.zeros(0, np.int64))
    compare(f"{os.path.basename(folder)} as it is", our_outputs(folder, ids), theirs)
    ballast("export", folder, "real-export")
    again = their_outputs(load("real-export"), ids, np.zeros(0, np.int64))
    compare(f"{os.path.basename(folder)} exported, in transformers", again, theirs)


def main():
    text_file, real_model = os.path.abspath(OPTIONS.text), OPTIONS.model and os.path.abspath(OPTIONS.model)
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
        if real_model:
            check_real_model(real_model)
        os.chdir("/")
    if failures:
        sys.exit(f"{len(failures)} checks failed: {'; '.join(failures)}")
    print("all equal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="the ballast program")
    parser.add_argument("text", nargs="?", default=LICENSE, help="a text, for training and the tokenizer")
    parser.add_argument("--model", help="a Hugging Face folder to compare too")
    OPTIONS = parser.parse_args()
    BINARY = os.path.abspath(OPTIONS.binary)
    main()

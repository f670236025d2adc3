"""Tiny models, made when they are needed: the same random Llama as a GGUF file and as a folder of safetensors.

Both have one small byte-level BPE tokenizer with Llama-3's control tokens and template, so that ids are the same on
both sides. :func:`broken_ggufs` makes the files that a loader must refuse in words.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
END = ("<|end_of_text|>", "<|eot_id|>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
WORDS = "the quick brown fox jumps over a lazy dog while user and assistant talk of system time in green".split()


@dataclass(frozen=True)
class Shape:
    """The size of a tiny Llama."""

    layers: int = 2
    width: int = 64
    inner: int = 128
    heads: int = 4
    kv_heads: int = 2
    context: int = 2048


@cache
def byte_letters() -> tuple[str, ...]:
    """The letter by which byte-level BPE writes each byte (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return tuple(chr(b) if b in shown else chr(next(spare)) for b in range(256))


@cache
def vocabulary() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The tokens by id, control tokens last, and the merges: words, long runs of spaces and = signs, no emoji."""
    letters = byte_letters()
    tokens = list(letters)
    merges: list[tuple[str, str]] = []

    def merge(parts: list[str]) -> None:
        whole = parts[0]
        for part in parts[1:]:
            if whole + part not in tokens:
                merges.append((whole, part))
                tokens.append(whole + part)
            whole += part

    space = letters[32]
    for word in WORDS:
        merge([space, *word])
        merge(list(word))
    for sign in (space, "="):
        for length in (1, 2, 4, 8, 16, 32):
            merge([sign * length, sign * length])  # 64 bytes in one token
    return (*tokens, *CONTROL), tuple(merges)


def tokenizer() -> Tokenizer:
    """The tokenizer, as the tokenizers library has it."""
    tokens, merges = vocabulary()
    plain = tokens[: -len(CONTROL)]
    made = Tokenizer(models.BPE({t: n for n, t in enumerate(plain)}, list(merges), ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    return made


def weights(shape: Shape, seed: int = 7) -> dict[str, np.ndarray]:
    """Random float32 weights by Transformers' names; embeddings are tied."""
    draw = np.random.default_rng(seed)
    n, head = shape.width, shape.width // shape.heads
    kv = head * shape.kv_heads

    def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        return (draw.standard_normal((rows, columns)) * scale / columns**0.5).astype(np.float32)

    found = {
        "model.embed_tokens.weight": matrix(len(vocabulary()[0]), n, 2.0),
        "model.norm.weight": np.ones(n, np.float32),
    }
    for i in range(shape.layers):
        layer = f"model.layers.{i}"
        found |= {
            f"{layer}.input_layernorm.weight": np.ones(n, np.float32),
            f"{layer}.post_attention_layernorm.weight": np.ones(n, np.float32),
            f"{layer}.self_attn.q_proj.weight": matrix(n, n),
            f"{layer}.self_attn.k_proj.weight": matrix(kv, n),
            f"{layer}.self_attn.v_proj.weight": matrix(kv, n, 2.0),
            f"{layer}.self_attn.o_proj.weight": matrix(n, n, 2.0),
            f"{layer}.mlp.gate_proj.weight": matrix(shape.inner, n, 2.0),
            f"{layer}.mlp.up_proj.weight": matrix(shape.inner, n, 2.0),
            f"{layer}.mlp.down_proj.weight": matrix(n, shape.inner, 2.0),
        }
    return found


def make_folder(path: Path, shape: Shape | None = None, seed: int = 7) -> Path:
    """A folder that Transformers opens."""
    shape = shape or Shape()
    path.mkdir(parents=True)
    save_file(weights(shape, seed), path / "model.safetensors", metadata={"format": "pt"})
    tokenizer().save(str(path / "tokenizer.json"))
    tokens = vocabulary()[0]
    ids = {t: n for n, t in enumerate(tokens)}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": len(tokens),
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": ids[CONTROL[0]],
        "eos_token_id": [ids[t] for t in END],
        "dtype": "float32",
    }
    write(path / "config.json", config)
    write(path / "generation_config.json", {"bos_token_id": ids[CONTROL[0]], "eos_token_id": [ids[t] for t in END]})
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": CONTROL[0],
        "eos_token": END[1],
        "add_bos_token": True,
    }
    write(path / "tokenizer_config.json", {**names, "chat_template": TEMPLATE, "model_max_length": shape.context})
    return path


def make_gguf(
    path: Path,
    shape: Shape | None = None,
    seed: int = 7,
    *,
    architecture: str = "llama",
    template: str = TEMPLATE,
    scores: int | None = None,
    skip: str = "",
) -> Path:
    """The same model as a GGUF file; ``architecture``, ``scores`` and ``skip`` (a tensor to leave out) break it."""
    shape = shape or Shape()
    tokens, merges = vocabulary()
    ids = {t: n for n, t in enumerate(tokens)}
    w = gguf.GGUFWriter(path, architecture)
    w.add_name("Tiny Llama")
    w.add_context_length(shape.context)
    w.add_embedding_length(shape.width)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.inner)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_rope_dimension_count(shape.width // shape.heads)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(tokens)
    w.add_token_types([3 if t in CONTROL else 1 for t in tokens])
    if scores is not None:
        w.add_token_scores([0.0] * scores)
    w.add_token_merges([" ".join(pair) for pair in merges])
    w.add_bos_token_id(ids[CONTROL[0]])
    w.add_eos_token_id(ids["<|eot_id|>"])
    w.add_add_bos_token(True)
    if template:
        w.add_chat_template(template)
    for name, tensor in weights(shape, seed).items():
        if (renamed := gguf_name(name)) != skip:
            w.add_tensor(renamed, turned(tensor, name, shape))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


@cache
def name_map() -> gguf.TensorNameMap:
    """How GGUF names the tensors of a Llama."""
    return gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 64)


def make_huge_gguf(path: Path, size: int) -> Path:
    """A file whose header is right and whose one tensor is a hole of so many bytes."""
    w = gguf.GGUFWriter(path, "llama")
    for add in (w.add_context_length, w.add_embedding_length, w.add_block_count, w.add_head_count):
        add(64)
    w.add_tensor_info("token_embd.weight", [size // 256, 64], np.dtype(np.float32), size)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 32 * 32 + 32 + size)
    return path


def gguf_name(name: str) -> str:
    """A tensor's name in GGUF."""
    found = name_map().get_name(name, try_suffixes=(".weight",))
    assert found, name
    return found


def turned(tensor: np.ndarray, name: str, shape: Shape) -> np.ndarray:
    """Queries and keys in the order of GGUF, whose rotary pairs lie side by side."""
    heads = shape.heads if "q_proj" in name else shape.kv_heads if "k_proj" in name else 0
    if not heads:
        return tensor
    rows, columns = tensor.shape
    return tensor.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()


def write(path: Path, value: object) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value, indent=1))


def broken_ggufs(good: Path, folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Damaged files: what is wrong, the file, and a word of the reason that a person should be told ("" = any)."""
    data = good.read_bytes()
    noise = random.Random(1)
    keys = data.index(b"general.architecture")
    made = {
        "empty": (b"", "empty"),
        "four bytes": (data[:4], "short"),
        "header only": (data[:24], "end"),
        "half": (data[: len(data) // 2], "truncated"),
        "one byte short": (data[:-1], "truncated"),
        "noise": (noise.randbytes(4096), "GGUF"),
        "noise behind the magic": (b"GGUF" + noise.randbytes(4096), ""),
        "web page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        "2^63 tensors": (data[:8] + struct.pack("<Q", 2**63) + data[16:], "tensors"),
        "2^63 keys": (data[:16] + struct.pack("<Q", 2**63) + data[24:], "keys"),
        "endless string": (data[: keys - 8] + struct.pack("<Q", 2**64 - 1) + data[keys:], "string"),
        "version 99": (data[:4] + struct.pack("<I", 99) + data[8:], "version 99"),
        "big-endian": (data[:4] + struct.pack(">I", 3) + data[8:], "big-endian"),
        "no tensors": (data[:8] + struct.pack("<Q", 0) + data[16:], "tensors"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "LFS"),
    }
    for name, (content, word) in made.items():
        path = folder / f"{name.replace(' ', '-').replace('^', '')}.gguf"
        path.write_bytes(content)
        yield name, path, word
    yield "architecture", make_gguf(folder / "architecture.gguf", architecture="nosuch"), "nosuch"
    yield "missing tensor", make_gguf(folder / "missing.gguf", skip="blk.1.attn_k.weight"), "blk.1.attn_k"
    yield "short scores", make_gguf(folder / "scores.gguf", scores=3), "scores"


def fuzzed(good: Path, path: Path, seed: int) -> Path:
    """The file with 20 random bytes in its first 9 KB."""
    data = bytearray(good.read_bytes())
    noise = random.Random(seed)
    for _ in range(20):
        data[noise.randrange(min(9216, len(data)))] = noise.randrange(256)
    path.write_bytes(data)
    return path

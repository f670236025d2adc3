"""DRY with sequence breakers against llama.cpp's, on a byte-level vocabulary with a few merges."""

import ctypes

import gguf
import llama_cpp
import numpy as np
import pytest

from webui.core.sampling import Sampler
from webui.core.settings import GenerationSettings

MERGES = [
    (b"x", b"\n"), (b'"', b":"), (b"E", b"N"), (b"EN", b"D"), (b"a", b"E"), (b"N", b"D"), (b"a", b"b"), (b"<", b"/"),
    (b"\n", b"\n"), ("“".encode()[:2], "“".encode()[2:]),
]  # fmt: skip
PIECES = [bytes([b]) for b in range(256)] + [a + b for a, b in MERGES]


def spelt(data):
    """Bytes in the letters that byte-level vocabularies write them with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    letters = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return "".join(letters[b] for b in data)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_context_length, 512), (writer.add_embedding_length, 8), (writer.add_block_count, 1),
        (writer.add_feed_forward_length, 8), (writer.add_head_count, 1), (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_tokenizer_model, "gpt2"), (writer.add_tokenizer_pre, "llama-bpe"),
        (writer.add_token_list, [*map(spelt, PIECES), "<|end|>"]), (writer.add_token_types, [1] * len(PIECES) + [3]),
        (writer.add_token_merges, [f"{spelt(a)} {spelt(b)}" for a, b in MERGES]),
        (writer.add_eos_token_id, len(PIECES)),
    ):  # fmt: skip
        add(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    options = llama_cpp.llama_model_default_params()
    options.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
    assert model
    yield llama_cpp.llama_model_get_vocab(model)
    llama_cpp.llama_model_free(model)


def penalties(vocabulary, text, breakers, allowed, window):
    """What llama.cpp's DRY subtracts from each logit."""
    n = llama_cpp.llama_vocab_n_tokens(vocabulary)
    words = (ctypes.c_char_p * len(breakers))(*[b.encode() for b in breakers])
    stage = llama_cpp.llama_sampler_init_dry(vocabulary, 1.0, 1.5, allowed, window, words, len(breakers))
    data = np.zeros(n, dtype=np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
    data["id"] = np.arange(n)
    array = llama_cpp.llama_token_data_array(
        data=ctypes.cast(data.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data)),
        size=n, selected=-1, sorted=False,
    )  # fmt: skip
    for token in text:
        llama_cpp.llama_sampler_accept(stage, token)
    llama_cpp.llama_sampler_apply(stage, ctypes.byref(array))
    llama_cpp.llama_sampler_free(stage)
    return -data["logit"]


@pytest.mark.parametrize(
    "breakers", [("\n", ":", '"', "*"), ("END",), ("abENDE", "</s>"), ("“",), ("x\n\n",), ("b", "aEND\n")]
)
@pytest.mark.parametrize("allowed", [1, 2])
def test_breakers_stop_the_same_sequences_as_in_llama_cpp(vocabulary, breakers, allowed):
    def encode(text):
        data, out = text.encode(), (llama_cpp.llama_token * 100)()
        count = llama_cpp.llama_tokenize(vocabulary, data, len(data), out, 100, False, False)
        return list(out[:count])

    def token_bytes(id):
        return PIECES[id] if id < len(PIECES) else b"<|end|>"

    rng = np.random.default_rng(allowed)
    alphabet = [*b"abN", *b'END:"\n', *range(256, len(PIECES)), *"“".encode()]
    row = np.zeros(len(PIECES) + 1, dtype=np.float32)
    acted = 0
    for turn in range(150):
        few = rng.choice(alphabet, 6)
        text = rng.choice(few, int(rng.integers(3, 60))).tolist()
        window = int(rng.choice([20, 60]))
        settings = GenerationSettings(
            dry_multiplier=1.0, dry_base=1.5, dry_allowed_length=allowed, dry_range=window,
            dry_sequence_breakers=breakers,
        )  # fmt: skip
        sampler = Sampler(
            settings, vocabulary=len(row), seed=1, prompt=text[: turn % 3], encode=encode, token_bytes=token_bytes
        )
        for id in text[turn % 3 :]:
            sampler.accept(id)
        ids, p = sampler.distribution(row)
        got = np.empty(len(row))
        got[ids] = -np.log(p)
        expected = penalties(vocabulary, text, breakers, allowed, window)
        assert got - got.min() == pytest.approx(expected, abs=1e-4), text
        acted += expected.max() > 0
    assert acted > 20

"""Transformers: what is refused before it is opened, what it says of broken folders, and the growing cache."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from loaders.huggingface import HuggingFace, HuggingFaceOptions
from tests import models
from tests.loaders.conftest import Speaker, open_engine
from webui import LoadFailed, ModelSpec, build


class Marker:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def open_folder(path: Path, **options: Any) -> Any:
    spec = ModelSpec(path.name, str(path), "huggingface")
    return HuggingFace().open(spec, build(HuggingFaceOptions, options), lambda *_: True)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return models.make_folder(tmp_path / "tiny")


def test_pickled_weights_are_refused_and_not_opened(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "model.ckpt"):
        (folder / name).write_bytes(pickle.dumps(Marker(marker)))
    with pytest.raises(LoadFailed, match="pickled"):
        open_folder(folder)
    assert HuggingFace().accepts(folder) == 0.0
    assert not marker.exists()


def test_safetensors_are_taken_where_both_lie(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Marker(marker)))
    open_folder(folder).close()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}),
        ("config.json", {"text_config": {"deep": [{"trust_remote_code": True}]}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tok.T", None]}}),
    ],
)
def test_a_folder_that_brings_code_is_refused(folder: Path, tmp_path: Path, file: str, values: dict[str, Any]) -> None:
    marker = tmp_path / "ran"
    (folder / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w')\nclass X: pass\n")
    change(folder / file, **values)
    with pytest.raises(LoadFailed, match="run code that comes with the model"):
        open_folder(folder)
    assert not marker.exists()


def test_an_index_that_points_outside_is_refused(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../../etc/secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(LoadFailed, match="index names the file"):
        open_folder(folder)


def test_damaged_folders_are_refused_in_words(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for content, word in [
        (whole[: len(whole) // 2], "truncated"),
        (b"", "not a usable safetensors"),
        (b"\xff" * 64, "header claims"),
        (b"\x08" + b"\0" * 7 + b"not json", "not a usable safetensors"),
    ]:
        weights.write_bytes(content)
        with pytest.raises(LoadFailed, match=word):
            open_folder(folder)
    weights.unlink()
    with pytest.raises(LoadFailed, match="no weights"):
        open_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(LoadFailed, match=r"config\.json cannot be read"):
        open_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(LoadFailed, match="no model folder"):
        open_folder(folder)


def test_missing_tensors_and_unknown_kinds_are_named(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(LoadFailed, match=r"tensors are missing, such as model\.layers\.2"):
        open_folder(folder)
    change(folder / "config.json", model_type="nosuch", architectures=["NoSuchForCausalLM"])
    with pytest.raises(LoadFailed, match="nosuch"):
        open_folder(folder)


def test_a_broken_tokenizer_is_refused_in_words(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(LoadFailed, match="tokenizer of tiny cannot be read"):
        open_folder(folder)


def test_a_template_file_comes_before_the_tokenizers(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    engine = open_folder(folder)
    assert engine.info.template == "{{ messages }}"
    engine.close()


def test_it_accepts_what_it_can_open(folder: Path) -> None:
    assert HuggingFace().accepts(folder) == 0.9
    change(folder / "config.json", quantization_config={"quant_method": "exl2"})
    assert HuggingFace().accepts(folder) == 0.0
    assert HuggingFace().accepts(folder / "config.json") == 0.0


def test_a_context_larger_than_memory_is_refused_with_the_numbers(tmp_path: Path) -> None:
    deep = models.make_folder(tmp_path / "deep", models.Shape(layers=64, kv_heads=4))
    with pytest.raises(LoadFailed, match=r"GiB, conversation|conversation .* GiB"):
        open_folder(deep, context=16_000_000, dtype="float32")


def test_a_device_that_is_not_there_is_refused_in_words(folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(LoadFailed, match="no cuda device"):
        open_folder(folder, device="cuda")


def test_the_growing_cache_gives_what_transformers_gives(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    engine = open_engine("huggingface", tiny)
    speaker = Speaker("huggingface", engine)
    job = speaker.job("the quick " * 300, 24, temperature=0.0)
    assert len(job.prompt) > 512  # several slices, and the buffers grow
    written = [e.id for e in speaker.run(job) if type(e).__name__ == "Sampled"]
    engine.close()
    model = AutoModelForCausalLM.from_pretrained(tiny / "tiny", dtype=torch.float32)
    prompt = torch.tensor([list(job.prompt)])
    banned = [[n] for n in engine.info.eos]
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False,
        bad_words_ids=banned, pad_token_id=0,
    )  # fmt: skip
    assert out[0, prompt.shape[1] :].tolist() == written

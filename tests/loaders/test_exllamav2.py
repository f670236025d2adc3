"""ExLlamaV2: what it says where it cannot run, and its code over a stand-in for the library, which needs a card."""

from __future__ import annotations

import json
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

import loaders.exllamav2 as module
from loaders.exllamav2 import ExLlamaV2, ExLlamaV2Options
from tests import models
from tests.loaders.conftest import Speaker
from webui import Finish, LoaderUnavailable, ModelSpec, Sampled, Started

NO_CARD = not any(Path(p).exists() for p in module.DRIVER)


@pytest.mark.skipif(not NO_CARD, reason="this machine has an NVIDIA card")
def test_without_a_card_it_says_so_and_does_not_open(tmp_path: Path) -> None:
    assert "NVIDIA" in ExLlamaV2().available()
    with pytest.raises(LoaderUnavailable, match="NVIDIA"):
        ExLlamaV2().open(ModelSpec("m", str(tmp_path), "exllamav2"), ExLlamaV2Options(), lambda *_: True)


def test_it_accepts_its_own_formats_first(tmp_path: Path) -> None:
    folder = models.make_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    scores = {}
    for method in ("exl2", "gptq", "", "awq"):
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": method}}))
        scores[method] = ExLlamaV2().accepts(folder)
    assert scores["exl2"] > scores["gptq"] > scores[""] > scores["awq"] == 0.0


def library() -> types.ModuleType:
    """The parts of exllamav2 0.3.2 that the loader calls: a model whose next token is the last one plus one."""
    import torch

    fake = types.ModuleType("exllamav2")

    class Config:
        def __init__(self, folder: str) -> None:
            data = json.loads((Path(folder) / "config.json").read_text())
            self.max_seq_len, self.vocab_size = data["max_position_embeddings"], data["vocab_size"]
            self.architecture, self.no_flash_attn = data["architectures"][0], False

        def arch_compat_overrides(self) -> None:
            self.checked = True

    class Cache:
        def __init__(self, model: Any, max_seq_len: int = -1, lazy: bool = False) -> None:
            self.max_seq_len, self.current_seq_len, self.seen = max_seq_len, 0, [0] * max_seq_len

    class Model:
        def __init__(self, config: Config) -> None:
            self.config = config

        def load_autosplit(self, cache: Cache, last_id_only: bool = False, callback: Any = None) -> None:
            for done in range(4):
                callback(done, 4)

        def forward(
            self, input_ids: Any, cache: Cache, preprocess_only: bool, last_id_only: bool, abort_event: threading.Event
        ) -> Any:
            if abort_event.is_set():
                return None
            for id in input_ids[0].tolist():
                cache.seen[cache.current_seq_len] = id
                cache.current_seq_len += 1
            if preprocess_only:
                return None
            logits = torch.zeros(1, 1, self.config.vocab_size + 32)  # padded, as the real one is
            logits[0, 0, cache.seen[cache.current_seq_len - 1] + 1] = 10.0
            return logits.half()

        def unload(self) -> None:
            self.config = None

    fake.ExLlamaV2, fake.ExLlamaV2Config, fake.ExLlamaV2Cache = Model, Config, Cache  # type: ignore[attr-defined]
    return fake


def test_its_code_runs_over_the_librarys_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "exllamav2", library())
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.3.2")
    folder = module.read_folder(models.make_folder(tmp_path / "m"))
    seen: list[float] = []
    engine = module._open(folder, ExLlamaV2Options(slice=16), lambda done, _: not seen.append(done))
    assert seen[-1] == 1.0 and seen == sorted(seen)
    speaker = Speaker("exllamav2", engine)
    job = speaker.job("the quick brown fox " * 20 + "A", 5, temperature=0.0)
    assert speaker.text(job) == b"BCDEF"
    again = speaker.job("the quick brown fox " * 20 + "Q", 3, temperature=0.0)
    events = speaker.run(again)
    assert isinstance(events[0], Started) and events[0].cached_tokens == len(again.prompt) - 1
    assert [engine.token_bytes(e.id) for e in events if isinstance(e, Sampled)] == [b"R", b"S", b"T"]
    assert isinstance(events[-1], Finish)
    engine.close()

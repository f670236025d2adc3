"""llama.cpp: damaged files, memory, options, and the engine's own words."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loaders.llamacpp import LlamaCpp, LlamaCppOptions, read_header
from loaders.llamacpp.memory import cache_bytes, choose_context, need
from tests import models
from tests.loaders.conftest import Speaker, open_engine
from webui import LoadFailed, ModelSpec, SettingError, build
from webui.runtime.machine import free_memory, thread_count

ROOT = Path(__file__).parents[2]


def open_file(path: Path, **options: Any) -> Any:
    spec = ModelSpec(path.stem, str(path), "llamacpp")
    return LlamaCpp().open(spec, build(LlamaCppOptions, options), lambda *_: True)


@pytest.fixture(scope="module")
def broken(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path, str]]:
    return list(models.broken_ggufs(tiny / "tiny.gguf", tmp_path_factory.mktemp("broken")))


def test_a_damaged_file_is_refused_in_words(broken: list[tuple[str, Path, str]]) -> None:
    assert len(broken) == 18
    for name, path, word in broken:
        began = time.monotonic()
        with pytest.raises(LoadFailed) as failed:
            open_file(path)
        assert time.monotonic() - began < 2, name
        assert word in failed.value.message, (name, failed.value.message)
        assert path.name in failed.value.message


def test_a_file_with_random_damage_opens_or_is_refused(tiny: Path, tmp_path: Path) -> None:
    """In a child process, because the engine itself may die of it, as a worker may."""
    code = (
        "import sys, json; from pathlib import Path; from tests.loaders.test_llamacpp import open_file\n"
        "from tests.models import fuzzed; from webui import LoadFailed\n"
        "good, folder = map(Path, sys.argv[1:])\n"
        "for seed in range(40):\n"
        "    try: open_file(fuzzed(good, folder / 'fuzzed.gguf', seed)).close(); said = ''\n"
        "    except LoadFailed as error: said = error.message\n"
        "    print(json.dumps([seed, said]), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny / "tiny.gguf"), str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 40, done.stderr[-2000:]
    assert sum(bool(said) for _, said in results) > 20


def test_a_file_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"gone\.gguf cannot be read"):
        open_file(tmp_path / "gone.gguf")


def test_the_header_is_read_without_the_engine(tiny: Path) -> None:
    header = read_header(tiny / "tiny.gguf")
    assert (header.architecture, header.name, header.context) == ("llama", "Tiny Llama", 2048)
    assert header.vocabulary == len(models.vocabulary()[0])
    assert header.template == models.TEMPLATE
    assert header.parameters == header.size // 4 == 99_840
    assert header.numbers("attention.head_count_kv", 2) == [2, 2]


def test_it_accepts_what_it_can_open(tmp_path: Path) -> None:
    names = {"a.gguf": 1.0, "B.GGUF": 1.0, "m-00001-of-00003.gguf": 1.0, "m-00002-of-00003.gguf": 0.0}
    for name, score in {**names, "mmproj-a.gguf": 0.0, "a.bin": 0.0}.items():
        (tmp_path / name).touch()
        assert LlamaCpp().accepts(tmp_path / name) == score, name
    assert LlamaCpp().accepts(tmp_path) == 0.0


def test_a_context_larger_than_memory_is_refused_with_the_numbers(tmp_path: Path) -> None:
    deep = models.make_gguf(tmp_path / "deep.gguf", models.Shape(layers=64, kv_heads=4))
    with pytest.raises(LoadFailed) as failed:
        open_file(deep, context=16_000_000, cache_type_k="f32", cache_type_v="f32")
    assert "GiB" in failed.value.message
    assert "16,000,000 tokens" in failed.value.message
    assert "force" in failed.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_model_larger_than_the_process_may_grow_is_refused_with_the_numbers(tmp_path: Path) -> None:
    huge = models.make_huge_gguf(tmp_path / "huge.gguf", 3 << 30)
    code = (
        "import resource, sys; from pathlib import Path; from tests.loaders.test_llamacpp import open_file\n"
        "from webui import LoadFailed\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: open_file(Path(sys.argv[1]))\n"
        "except LoadFailed as error: print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(huge)], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert "weights 3.0 GiB" in done.stdout, done.stderr[-2000:]
    assert "are free" in done.stdout


@pytest.mark.parametrize("name", ["trust_remote_code", "extra_flags", "n_discard"])
def test_an_option_that_is_not_declared_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        build(LlamaCppOptions, {name: True})


@pytest.mark.parametrize("context", [2_000_000_000, -5, float("nan")])
def test_an_impossible_context_is_a_setting_error(context: float) -> None:
    with pytest.raises(SettingError, match="context"):
        build(LlamaCppOptions, {"context": context})


def test_the_automatic_context_shrinks_to_what_fits(tiny: Path) -> None:
    header, options = read_header(tiny / "tiny.gguf"), LlamaCppOptions()
    whole = need(header, options, 2048, 2, header.size).total
    assert choose_context(header, options, header.size, whole) == (2048, 2)
    assert choose_context(header, options, header.size, whole - 1) == (2048, 1)
    less = need(header, options, 2048, 1, header.size).total - 1
    assert choose_context(header, options, header.size, less) == (1024, 1)
    with pytest.raises(LoadFailed, match="free"):
        choose_context(header, options, header.size, 1000)
    assert choose_context(header, LlamaCppOptions(force=True), header.size, 1000) == (1024, 1)
    assert cache_bytes(header, 1000, "f16", "f16") == 1000 * 2 * 2 * 16 * 2 * 2
    assert cache_bytes(header, 1000, "q8_0", "f16") < cache_bytes(header, 1000, "f16", "f16")


def test_quantised_values_without_flash_attention_are_refused(tiny: Path) -> None:
    with pytest.raises(LoadFailed, match="need flash attention"):
        open_file(tiny / "tiny.gguf", cache_type_v="q8_0", flash_attention="off")


@pytest.mark.parametrize(
    "options",
    [
        {"mmap": False},
        {"cache_type_k": "q8_0", "flash_attention": "off"},
        {"context": 512, "batch": 64, "ubatch": 32, "threads": 2, "threads_batch": 1},
        {"rope_freq_base": 20_000.0, "rope_freq_scale": 0.5, "flash_attention": "on"},
        {"gpu_layers": 0},
    ],
)
def test_options_reach_the_engine(tiny: Path, options: dict[str, Any]) -> None:
    engine = open_file(tiny / "tiny.gguf", **options)
    speaker = Speaker("llamacpp", engine)
    assert len(speaker.text(speaker.job("the fox " * 20, 8, temperature=0.0))) >= 8
    assert engine.info.context == options.get("context", 2048)
    assert "AVX" in engine.info.details["system"] or "NEON" in engine.info.details["system"]
    engine.close()


def test_a_model_with_a_broken_template_still_loads(tmp_path: Path) -> None:
    template = "{% for x in %}"
    engine = open_file(models.make_gguf(tmp_path / "t.gguf", template=template))
    assert engine.info.template == template
    engine.close()


def test_a_path_with_spaces_and_other_letters_opens(tmp_path: Path) -> None:
    folder = tmp_path / "meine Modelle – 模型"
    folder.mkdir()
    open_file(models.make_gguf(folder / "schön klein.gguf")).close()


def test_an_interruption_meant_for_another_job_is_forgotten(tiny: Path) -> None:
    engine = open_engine("llamacpp", tiny)
    speaker = Speaker("llamacpp", engine)
    before = speaker.text(speaker.job("the fox", temperature=0.0))
    engine.interrupt()
    assert speaker.text(speaker.job("the fox", temperature=0.0)) == before
    engine.close()


def test_threads_leave_room() -> None:
    assert thread_count(3, 10**9) == 3
    assert thread_count(0, 10**6) == 1
    assert thread_count(0, 10**9) >= 1
    assert 0 < free_memory() < 1 << 60

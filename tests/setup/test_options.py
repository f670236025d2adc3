"""Each option can be typed, put into the environment or written into config.yaml; what cannot be is said by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from webui.core.config import ROOT, Config, default_data_folder, flag, load, parser
from webui.core.errors import PatchbayError, SettingError
from webui.core.fields import describe

SAMPLES = {bool: True, int: 7999, str: "word"}


def folder_with(folder: Path, text: str) -> dict[str, str]:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return {"PATCHBAY_DATA_DIR": str(folder)}


def sample(name: str) -> bool | int | str:
    return "127.0.0.1" if name == "host" else SAMPLES[describe(Config)[name].type]


def resolved(name: str, value: object) -> object:
    return str(Path("word").absolute()) if name == "data_dir" else value


@pytest.mark.parametrize("name", list(describe(Config)))
def test_every_option_is_read_from_the_command_line(name: str, tmp_path: Path) -> None:
    words = [flag(name)] if describe(Config)[name].type is bool else [flag(name), str(sample(name))]
    config = load(words, {"HOME": str(tmp_path)})
    assert getattr(config, name) == resolved(name, sample(name))
    assert config.given == {name}


@pytest.mark.parametrize("name", list(describe(Config)))
def test_every_option_is_read_from_the_environment(name: str, tmp_path: Path) -> None:
    text = "1" if describe(Config)[name].type is bool else str(sample(name))
    config = load([], {"HOME": str(tmp_path), f"PATCHBAY_{name.upper()}": text})
    assert getattr(config, name) == resolved(name, sample(name))


@pytest.mark.parametrize("name", [n for n in describe(Config) if n != "data_dir"])
@pytest.mark.parametrize("dashed", [False, True])
def test_every_option_is_read_from_the_file(name: str, dashed: bool, tmp_path: Path) -> None:
    key = name.replace("_", "-") if dashed else name
    config = load([], folder_with(tmp_path, yaml.safe_dump({key: sample(name)})))
    assert getattr(config, name) == sample(name)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    environ = folder_with(tmp_path, "port: 7001\nmodel: file\npreset: file\n")
    environ |= {"PATCHBAY_PORT": "7002", "PATCHBAY_MODEL": "environment"}
    config = load(["--port", "7003"], environ)
    assert (config.port, config.model, config.preset, config.loader) == (7003, "environment", "file", "")


def test_an_option_of_the_file_can_be_turned_off_by_the_environment(tmp_path: Path) -> None:
    environ = folder_with(tmp_path, "no_browser: true\n") | {"PATCHBAY_NO_BROWSER": "0"}
    assert load([], environ).no_browser is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 7860\n", "there is no option 'prot'. Did you mean port"),
        ("port: many\n", "port cannot be 'many'. It takes a whole number."),
        ("port: 70000\n", "port cannot be 70000. It takes 1 to 65535."),
        ("port: [\n", "is not YAML in line 2. A line looks like `port: 7861`."),
        ("just words\n", "holds no options. A line looks like `port: 7861`."),
        ("api_key: 12345678\n", "api_key cannot be the value. It takes text."),
        ("listen: maybe\n", "listen cannot be 'maybe'. It takes true or false."),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_the_file_and_the_cure(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PatchbayError) as caught:
        load([], folder_with(tmp_path, text))
    assert str(tmp_path / "config.yaml") in str(caught.value)
    assert said in str(caught.value)


def test_an_empty_file_is_no_options(tmp_path: Path) -> None:
    assert load([], folder_with(tmp_path, "# nothing yet\n")).port == 7860


def test_a_wrong_value_in_the_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"PATCHBAY_PORT is 'x'\. It takes a whole number\."):
        load([], {"HOME": str(tmp_path), "PATCHBAY_PORT": "x"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prot", "1"], "there is no option --prot. Did you mean --port"),
        (["--no-browse"], "there is no option --no-browse. Did you mean --no-browser"),
        (["stray"], "unrecognized arguments: stray"),
    ],
)
def test_a_mistyped_option_is_answered_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(words, {"HOME": str(tmp_path)})
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_help_names_every_option_and_command() -> None:
    text = parser().format_help()
    assert all(flag(name) in text for name in describe(Config))
    assert all(word in text for word in ("doctor", "test", "setup"))


def test_only_this_machine_is_served_unless_it_is_asked_for(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert load([], home).bind == "127.0.0.1"
    assert load([], home | {"GRADIO_SERVER_NAME": "0.0.0.0"}).bind == "127.0.0.1"
    assert load(["--listen"], home).bind == "0.0.0.0"
    with pytest.raises(SettingError, match="Add --listen"):
        load(["--host", "0.0.0.0"], home)


@pytest.mark.parametrize("home", ["", None])
def test_the_data_folder_has_a_place_also_with_an_empty_home(home: str | None) -> None:
    place = default_data_folder({} if home is None else {"HOME": home})
    assert place.is_absolute()
    assert place.name == "patchbay"
    assert len(place.parts) > 3


def test_models_are_in_the_checkout_unless_a_folder_is_named(tmp_path: Path) -> None:
    assert load([], {"HOME": str(tmp_path)}).models == ROOT / "models"
    assert load(["--models-dir", str(tmp_path)], {"HOME": str(tmp_path)}).models == tmp_path

"""The options of the program, declared once: the command line, ``config.yaml`` and ``PATCHBAY_*`` come from this list.

    config = load(["--port", "7861"])      # command line > environment > config.yaml > default

Importing this module needs nothing outside the standard library, so that ``start.py --help`` answers before anything
is installed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from webui.core.errors import PatchbayError, SettingError
from webui.core.fields import Setting, build, describe, did_you_mean, setting

ROOT = Path(__file__).resolve().parents[2]  # the checkout
PREFIX = "PATCHBAY_"
COMMANDS = {
    "serve": "start the program; what happens without a command",
    "test": "install what the tests need and run them; further words go to pytest",
    "doctor": "say what works on this machine and why the rest does not (--json for programs)",
    "setup": "install or repair the environment and stop; tries again what could not be installed before",
}


def _unheard(url: str) -> None:
    """Nobody waits to hear which address to open."""


@dataclass(frozen=True)
class Config:
    """What the program was started with. Options first; the rest is filled in by the command line."""

    host: str = setting(
        "", "The address the page is served on: 127.0.0.1, or 0.0.0.0 with --listen.", label="ADDRESS", group="Page"
    )
    port: int = setting(
        7860, "The port; when it is busy and not asked for by name, the next free one.", valid=(1, 65535), group="Page"
    )
    listen: bool = setting(
        False, "Serve other machines too. Needs a key; one is made when --api-key gives none.", group="Page"
    )
    api_key: str = setting("", "The key that other machines must give.", label="KEY", secret=True, group="Page")
    no_browser: bool = setting(False, "Do not open the browser.", group="Page")
    window: bool = setting(False, "Open a window of its own instead of the browser (needs pywebview).", group="Page")
    model: str = setting("", "The model to start with: its name, or a path.", label="NAME", group="Start with")
    loader: str = setting("", "The loader to open it with.", label="NAME", group="Start with")
    preset: str = setting("", "The preset to start with.", label="NAME", group="Start with")
    no_extensions: bool = setting(False, "Start without extensions; this always comes up.", group="Start with")
    models_dir: str = setting("", "Where models are looked for; models/ otherwise.", label="FOLDER", group="Folders")
    data_dir: str = setting(
        "", "Where chats, presets and settings are kept; a folder of the system's choosing otherwise.",
        label="FOLDER", group="Folders",
    )  # fmt: skip

    given: frozenset[str] = frozenset()  # the options that a person set, by whatever way
    crashed: str = ""  # why the program was started again by its supervisor; empty at a normal start
    without: tuple[str, ...] = ()  # extensions that this run leaves out because they ended the last one
    ready: Callable[[str], None] = field(default=_unheard, compare=False)  # called by the server once it answers

    @property
    def bind(self) -> str:
        """The address to listen on."""
        return self.host or ("0.0.0.0" if self.listen else "127.0.0.1")  # noqa: S104  # only with --listen and its key

    @property
    def url(self) -> str:
        """The address of the page as seen from this machine."""
        name = "127.0.0.1" if self.bind in ("0.0.0.0", "::", "") else self.bind  # noqa: S104  # compared, not bound
        return f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"

    @property
    def models(self) -> Path:
        """The folder of models."""
        return _folder(self.models_dir) if self.models_dir else ROOT / "models"

    @property
    def data(self) -> Path:
        """The folder of chats, presets and settings."""
        return _folder(self.data_dir) if self.data_dir else default_data_folder(os.environ)

    @property
    def loopback(self) -> bool:
        """Whether only this machine is served."""
        return self.bind in ("127.0.0.1", "::1", "localhost")


def load(arguments: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> Config:
    """The options from the command line, the environment and ``config.yaml``, checked.

    Raises SettingError with the option's name as the person wrote it, and SystemExit on ``--help`` or a malformed line.
    """
    typed = vars(parser().parse_args(list(arguments)))
    surroundings = {
        name: (_from_text(spec, environ[PREFIX + name.upper()], PREFIX + name.upper()), PREFIX + name.upper())
        for name, spec in describe(Config).items()
        if environ.get(PREFIX + name.upper(), "") != ""
    }
    line = {name: (typed[name], flag(name)) for name in describe(Config) if name in typed}
    chosen = {**surroundings, **line}
    folder = _folder(str(chosen["data_dir"][0])) if "data_dir" in chosen else default_data_folder(environ)
    merged = {**read_file(folder / "config.yaml"), **chosen}
    config = Config()
    for name, (value, written) in merged.items():
        try:
            config = build(Config, {name: value}, base=config)
        except SettingError as error:
            shown = "the value" if describe(Config)[name].secret else repr(value)
            raise SettingError(name, f"{written} cannot be {shown}.", error.hint) from None
    _check_listening(config)
    place = str(_folder(config.data_dir) if config.data_dir else folder)
    return replace(config, data_dir=place, given=frozenset(merged))


def read_file(path: Path) -> dict[str, tuple[Any, str]]:
    """The options of a ``config.yaml`` with where they stand; empty when there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise PatchbayError(f"{path} cannot be read: {error}.", "Mend the file or move it away.") from None
    import yaml  # not in the standard library: only once the environment stands

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise PatchbayError(f"{path} is not YAML{line}.", "A line looks like `port: 7861`.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise PatchbayError(f"{path} holds no options.", "A line looks like `port: 7861`.")
    found = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in describe(Config):
            raise SettingError(name, f"{path}: there is no option {key!r}.", did_you_mean(name, describe(Config)))
        if value is not None:
            found[name] = (value, f"{path}: {key}")
    return found


def flag(name: str) -> str:
    """The option as typed on the command line: ``models_dir`` is ``--models-dir``."""
    return "--" + name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command line, and what may have been meant."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
        if unknown.startswith("-"):
            known = [flag(name) for name in describe(Config)]
            message = f"there is no option {unknown}. {did_you_mean(unknown, known) or 'See --help.'}"
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The command line, made from the declaration. Options that are not typed are absent from the result."""
    commands = "\n".join(f"  {name:<20}  {text}" for name, text in COMMANDS.items())
    made = _Parser(
        prog="start.py",
        usage="python start.py [command] [options]",
        description="Patchbay: a plug-in workbench for language models on your own machine.\n\ncommands:\n" + commands,
        epilog="Each option is also a line in config.yaml in the data folder (port: 7861) and an environment variable\n"
        "(PATCHBAY_PORT=7861). The command line wins, then the environment, then the file.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, Any] = {}
    for name, spec in describe(Config).items():
        if spec.group not in groups:
            groups[spec.group] = made.add_argument_group(spec.group.lower())
        if spec.type is bool:
            groups[spec.group].add_argument(flag(name), help=spec.help, action="store_const", const=True)
        else:
            show = spec.label or spec.name.upper()
            read = int if spec.type is int else str
            groups[spec.group].add_argument(flag(name), help=spec.help, metavar=show, type=read)
    return made


def _from_text(spec: Setting, text: str, written: str) -> Any:
    """A value of the option's type from an environment variable."""
    if spec.type is bool:
        word = text.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise SettingError(spec.name, f"{written} is {text!r}.", "It takes 1 or 0.")
    if spec.type is int:
        try:
            return int(text)
        except ValueError:
            raise SettingError(spec.name, f"{written} is {text!r}.", "It takes a whole number.") from None
    return text


def _check_listening(config: Config) -> None:
    if not config.loopback and not config.listen:
        raise SettingError(
            "host", f"--host {config.host} would serve other machines.", "Add --listen to allow that; it needs a key."
        )


def _folder(text: str) -> Path:
    """A folder as a person wrote it, absolute."""
    return Path(os.path.abspath(Path(text).expanduser()))


def default_data_folder(environ: Mapping[str, str]) -> Path:
    """Where the system wants a program's data, also when HOME is empty."""
    home = Path(environ.get("HOME") or _registered_home())
    if sys.platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return Path(local) / "patchbay" if local else home / "AppData" / "Local" / "patchbay"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "patchbay"
    base = environ.get("XDG_DATA_HOME", "")
    return Path(base) / "patchbay" if base.startswith("/") else home / ".local" / "share" / "patchbay"


def _registered_home() -> str:
    if sys.platform == "win32":
        return os.path.expanduser("~")
    import pwd

    return pwd.getpwuid(os.getuid()).pw_dir

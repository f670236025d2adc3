"""The one check for names that become file names, and for paths that a person or a client gives.

    inside(folder, "My preset", ".yaml")     # folder/My preset.yaml, or BadName
    below(folder, "author/model.gguf")       # a path of several parts under folder, or BadName

The rules are those of the strictest system, on every system, so that a folder can be moved between machines. A name is
decoded once, by whoever read it from the network; what still looks encoded is refused.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from webui.core.errors import BadName

#: Longest name, in bytes of UTF-8; leaves room for an ending and a temporary prefix below the usual limit of 255.
LONGEST = 120

_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_ENCODED = re.compile(r"%[0-9a-fA-F]{2}")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)
_ENDINGS = frozenset(
    "bash bat bin cmd com conf dll dylib env exe gguf htm html js json lnk msi pickle pkl ps1 pt pth py pyc pyd pyw "
    "sh so sqlite3 svg toml txt vbs yaml yml zip".split()
)


def checked_name(name: str, *, what: str = "name") -> str:
    """The name in normal form, if it can be one part of a path on every system; BadName says what is wrong with it."""
    if not isinstance(name, str):
        raise BadName(f"A {what} is text.", "")
    problem = _problem(name)
    if problem:
        raise BadName(f"The {what} {_shown(name)} cannot be used: {problem}.", "Choose another one.")
    return unicodedata.normalize("NFC", name)


def inside(folder: Path, name: str, ending: str = "", *, what: str = "name") -> Path:
    """The path of the file ``name`` + ``ending`` directly in ``folder``; BadName when it would be anywhere else.

    With an ``ending``, the name may not bring one of its own that a program would act upon (``x.py``).
    """
    good = checked_name(name, what=what)
    if ending and good.rpartition(".")[1] and good.rpartition(".")[2].lower() in _ENDINGS:
        raise BadName(
            f"The {what} {_shown(name)} cannot be used: it ends like a file.", f"The ending {ending} is added."
        )
    path = folder / (good + ending)
    if path.is_symlink() or path.resolve().parent != folder.resolve():
        raise BadName(f"The {what} {_shown(name)} leads out of its folder.", "Links are not followed.")
    return path


def below(folder: Path, name: str, *, what: str = "name", links: bool = False) -> Path:
    """The path ``name``, of one or several parts parted by ``/``, under ``folder``; BadName when it leads out of it.

    ``links`` allows links inside the folder that a person put there (to weights on another disk).
    """
    if not isinstance(name, str) or not name:
        raise BadName(f"The {what} is empty.", "Choose another one.")
    path = folder
    for part in name.split("/"):
        path = path / checked_name(part, what=what)
        if not links and path.is_symlink():
            raise BadName(f"The {what} {_shown(name)} is a link.", "Links are not followed.")
    if not links and not path.resolve().is_relative_to(folder.resolve()):
        raise BadName(f"The {what} {_shown(name)} leads out of its folder.", "Choose another one.")
    return path


def _problem(name: str) -> str:
    """What is wrong with a name, or "" when nothing is."""
    if not name or not name.strip():
        return "it is empty"
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST:
        return f"it is longer than {LONGEST} bytes"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in name):
        return "it has invisible or control characters"
    normal = unicodedata.normalize("NFKC", name)  # look-alikes of separators and dots count as what they look like
    if _FORBIDDEN.search(name) or _FORBIDDEN.search(normal):
        return 'it has one of / \\ : * ? " < > |'
    if _ENCODED.search(name):
        return "it has an encoded character such as %2e"
    if normal[0] in ". ~" or normal[-1] in ". " or name[0].isspace() or name[-1].isspace():
        return "it begins or ends with a dot, a tilde or a space"
    if _DEVICES.fullmatch(normal.split(".")[0].strip()) or _DEVICES.fullmatch(name.split(".")[0].strip()):
        return "some systems keep it for a device"
    return ""


def _shown(name: str) -> str:
    """A name as it may be printed: control characters escaped, long ones cut."""
    text = ascii(name) if any(unicodedata.category(c)[0] == "C" for c in name) else repr(name)
    return text if len(text) <= 60 else text[:57] + "…"

"""What the guide was taught, as fingerprints: each setting and each section of the README.

``taught.json`` is written when the guide is exported. When a setting or a section differs from it, the guide may say
something that is no longer true: correct its corpus and run ``python models/guide/build.py --again 10``.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILE = HERE / "taught.json"
NOT_TAUGHT = ("Measured",)  # figures, which come anew with each release; nobody asks the guide for them
CURE = "correct models/guide/corpus, then run python models/guide/build.py --again 10."


def fingerprints() -> dict[str, dict[str, str]]:
    """A hash for each setting (name, neutral value, range, help) and each section of the README, by its name."""
    from webui.core.fields import describe
    from webui.core.settings import GenerationSettings

    settings = {
        field.name: _hash(f"{field.name} {field.default!r} {field.neutral!r} {field.form} {field.choices} {field.help}")
        for field in describe(GenerationSettings).values()
    }
    return {"settings": settings, "README": {heading: _hash(text) for heading, text in sections().items()}}


def sections() -> dict[str, str]:
    """The README's sections by heading, but for its figures; the text before the first is called "Patchbay"."""
    found: dict[str, str] = {}
    heading = "Patchbay"
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        else:
            found[heading] = found.get(heading, "") + line.rstrip() + "\n"
    return {name: text for name, text in found.items() if name not in NOT_TAUGHT}


def documents() -> list[str]:
    """The project's own documentation in pieces: README paragraphs and the settings' help texts."""
    from webui.core.fields import describe
    from webui.core.settings import GenerationSettings

    pieces = [piece.strip() for text in sections().values() for piece in re.split(r"\n\s*\n", text) if piece.strip()]
    return pieces + [f"{field.name}: {field.help}" for field in describe(GenerationSettings).values()]


def write() -> None:
    """Notes down what the guide has just been taught."""
    FILE.write_text(json.dumps(fingerprints(), indent=1, ensure_ascii=False) + "\n", "utf-8")


def changes() -> list[str]:
    """A sentence for each thing that differs from what the guide was taught."""
    if not FILE.exists():
        return ["The guide has not been built: run python models/guide/build.py."]
    now, then = fingerprints(), json.loads(FILE.read_text("utf-8"))
    found = []
    for kind, noun in (("settings", "setting"), ("README", "README section")):
        for name in sorted({*now[kind], *then[kind]}):
            if now[kind].get(name) != then[kind].get(name):
                what = "was removed" if name not in now[kind] else "is new" if name not in then[kind] else "has changed"
                found.append(f"The {noun} {name!r} {what} since the guide was trained: {CURE}")
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(re.sub(r"\s+", " ", text).strip().encode()).hexdigest()[:16]

"""The tokens of a model folder: text to ids, ids to bytes. Imported by loaders, in the worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from webui.core.errors import LoadFailed
from webui.core.vocabulary import control_texts, token_table
from webui.runtime.modelfolder import ModelFolder


class FolderTokenizer:
    """A tokenizer through the tokenizers library, and what its tokens stand for.

    ``convert`` makes one where a folder has no tokenizer.json. Raises LoadFailed.
    """

    def __init__(self, folder: ModelFolder, convert: Callable[[Path], Tokenizer] | None = None) -> None:
        self._tokenizer, description = _open(folder.path, convert)
        table = token_table(description)
        if table is None:  # an unusual decoder: let it decode token by token
            ids = range(self._tokenizer.get_vocab_size())
            table = {n: self._tokenizer.decode([n], skip_special_tokens=False).encode() for n in ids}
        self.table = table
        controls = control_texts(description)
        self.control = tuple(controls[n] for n in sorted(controls))
        self.bos = self.id(folder.token_text("bos_token"))
        self.eos = self.id(folder.token_text("eos_token"))
        self.ends = tuple(sorted(folder.ends() | ({self.eos} if self.eos is not None else set())))
        first = self._tokenizer.encode("", add_special_tokens=True).ids[:1]
        declared = folder.tokenizer.get("add_bos_token")
        self.add_bos = self.bos is not None and (first == [self.bos] if declared is None else bool(declared))
        self.newlines = tuple(n for n, piece in table.items() if b"\n" in piece)

    def id(self, text: str) -> int | None:
        """The id of a token by its text."""
        found: int | None = self._tokenizer.token_to_id(text) if text else None
        return found

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Ids of a text, with control tokens parsed only if ``special``."""
        self._tokenizer.encode_special_tokens = not special
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _open(path: Path, convert: Callable[[Path], Tokenizer] | None) -> tuple[Tokenizer, dict[str, Any]]:
    file = path / "tokenizer.json"
    if not file.is_file() and convert is None:
        raise LoadFailed(f"{path.name} has no tokenizer.json.", "Download the folder again, or choose another loader.")
    try:
        if convert is not None and not file.is_file():
            made = convert(path)
            return made, json.loads(made.to_str())
        return Tokenizer.from_file(str(file)), json.loads(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises plain Exception
        raise LoadFailed(
            f"The tokenizer of {path.name} cannot be read: {error}.", "Download the folder again."
        ) from None

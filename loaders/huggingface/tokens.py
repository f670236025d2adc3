"""The tokens of a folder: text to ids, ids to bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from webui import LoadFailed
from webui.core.vocabulary import control_texts, token_table

from .folder import Folder


class Tokens:
    """A tokenizer through the tokenizers library, and what its tokens stand for."""

    def __init__(self, folder: Folder) -> None:
        self._tokenizer, description = _open(folder.path)
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


def _open(path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    file = path / "tokenizer.json"
    try:
        if file.is_file():
            return Tokenizer.from_file(str(file)), json.loads(file.read_text(encoding="utf-8"))
        from transformers import AutoTokenizer

        made = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False).backend_tokenizer
        return made, json.loads(made.to_str())
    except Exception as error:  # the library raises plain Exception
        raise LoadFailed(
            f"The tokenizer of {path.name} cannot be read: {error}.", "Download the folder again."
        ) from None

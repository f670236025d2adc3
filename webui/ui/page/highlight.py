"""Colours for code: text to spans with the short class names of Pygments. No inline styles."""

from __future__ import annotations

from functools import lru_cache
from html import escape

from pygments.lexer import RegexLexer
from pygments.lexers import find_lexer_class_by_name
from pygments.token import STANDARD_TYPES, _TokenType
from pygments.util import ClassNotFound

LONGEST = 30_000  # letters; longer code is shown without colours, so that one block costs at most some 60 ms
CLASSES = frozenset(STANDARD_TYPES.values()) - {""}

_PLAIN = frozenset({"", "text", "txt", "plain", "plaintext", "output", "console-output", "none", "markdown", "md"})


@lru_cache(maxsize=64)
def _lexer(language: str) -> type[RegexLexer] | None:
    if language in _PLAIN:
        return None
    try:
        found = find_lexer_class_by_name(language)
    except ClassNotFound:
        return None
    return found if issubclass(found, RegexLexer) else None


@lru_cache(maxsize=4096)
def _class(kind: _TokenType) -> str:
    """The class of a token type, or of its nearest ancestor that has one; white space and plain names get none."""
    at: _TokenType | None = kind
    while at is not None and at not in STANDARD_TYPES:
        at = at.parent
    name = STANDARD_TYPES[at] if at is not None else ""
    return "" if name in ("w", "n", "p", "x", "esc") else name


def highlight(code: str, language: str) -> str:
    """HTML for ``code``: escaped, with spans where the language is known. The text stays as it is."""
    make = _lexer(language.lower()) if len(code) <= LONGEST else None
    if make is None:
        return escape(code, quote=False)
    lexer = make(stripnl=False, ensurenl=False)  # a new one each time: some keep state, and threads may draw at once
    out: list[str] = []
    last, held = "", ""
    for _, kind, value in lexer.get_tokens_unprocessed(code):
        name = _class(kind)
        if name == last or (not name and not value.strip()):
            held += value
            continue
        out.append(_span(last, held))
        last, held = name, value
    out.append(_span(last, held))
    return "".join(out)


def _span(name: str, text: str) -> str:
    text = escape(text, quote=False)
    return f'<span class="{name}">{text}</span>' if name and text else text

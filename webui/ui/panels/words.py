"""Numbers and foreign text as the tabs show them."""

from __future__ import annotations

_SIGNS = set("\\`*_{}[]()#+-.!|<>$~&")


def quiet(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join("\\" + c if c in _SIGNS else c for c in text.replace("\n", " "))


def amount(size: int) -> str:
    """Bytes in words: 22.5 MB, 1.9 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

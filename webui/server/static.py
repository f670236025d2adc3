"""The page's own files: read once, compressed once, and kept by browsers for as long as they do not change.

``/static/@VERSION/…`` never changes and is kept for a year; ``/static/…`` is asked for again each time and mostly
answered with "not modified". VERSION stands for all files together, so a changed one changes the address of all.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from webui.refusal import Refusal

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
TEXT = frozenset({".css", ".html", ".js", ".json", ".map", ".mjs", ".svg", ".txt", ".ttf"})
SMALLEST = 1024  # bytes; less gains nothing by compression
_VERSION = re.compile(r"@[0-9a-f]{16}/")
_REFERENCE = re.compile(r'(["\'(])/static/(?!@)')


@dataclass(frozen=True)
class _File:
    content: bytes
    packed: bytes  # empty when it does not pay
    kind: str
    tag: str


class Static:
    """Files below some folders, by their address. Only what is there at the time of a look is ever served."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders  # prefix of the address ("" or "vendor/") -> folder
        self._stamp: object = None
        self._paths: dict[str, Path] = {}
        self._files: dict[str, _File] = {}
        self.version = ""
        self.look()

    def look(self) -> str:
        """Take notice of files that were added or changed; the version of all together."""
        found: dict[str, tuple[Path, int, int]] = {}
        for prefix, folder in self._folders.items():
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in TYPES and path.is_file() and not path.is_symlink():
                    about = path.stat()
                    found[prefix + path.relative_to(folder).as_posix()] = (path, about.st_mtime_ns, about.st_size)
        if found != self._stamp:
            self._stamp = found
            self._paths = {name: entry[0] for name, entry in found.items()}
            self._files.clear()
            sums = hashlib.sha256()
            for name in sorted(self._paths):
                sums.update(name.encode() + b"\0" + self._paths[name].read_bytes() + b"\0")
            self.version = sums.hexdigest()[:16]
        return self.version

    def __contains__(self, name: str) -> bool:
        return _VERSION.sub("", name, count=1) in self._paths

    def _read(self, name: str) -> _File:
        kept = self._files.get(name)
        if kept is None:
            path = self._paths[name]
            content = path.read_bytes()
            ending = path.suffix.lower()
            packed = gzip.compress(content, 6, mtime=0) if ending in TEXT and len(content) >= SMALLEST else b""
            tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            kept = _File(content, packed if len(packed) < len(content) * 0.9 else b"", TYPES[ending], tag)
            self._files[name] = kept
        return kept

    def answer(self, address: str, request: Request) -> Response:
        """Answer a request for ``/static/address``."""
        versioned = address.startswith(f"@{self.version}/")
        name = _VERSION.sub("", address, count=1) if address.startswith("@") else address
        if name not in self._paths:
            raise Refusal(404, "not_found", "There is no such file.")
        file = self._read(name)
        headers = {
            "cache-control": "public, max-age=31536000, immutable" if versioned else "no-cache",
            "etag": file.tag,
            "vary": "accept-encoding",
        }
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        content = file.content
        if file.packed and "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            content = file.packed
        return Response(content, media_type=file.kind, headers=headers)

    def page(self, path: Path) -> Response:
        """An HTML page whose references to our files carry the version."""
        self.look()
        text = path.read_text(encoding="utf-8")
        return HTMLResponse(_REFERENCE.sub(rf"\1/static/@{self.version}/", text), headers={"cache-control": "no-cache"})

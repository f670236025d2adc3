"""Markdown to blocks of HTML, at once or while it is being written.

    render("# Title\\n\\nText")        # ['<h3 dir="auto">Title</h3>', '<p dir="auto">Text</p>']

    blocks = Blocks()
    blocks.feed("# Ti"); blocks.feed("tle\\n\\nText")
    blocks.finish()
    blocks.html                        # the same list

A block is what stands at the top level: a paragraph, a heading, a list, a table, a code block. The HTML is sanitised.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markdown_it.token import Token

from webui.ui.page.dialect import make_parser
from webui.ui.page.markup import CODE_CLOSING, Drawing, clean, code_language, code_opening, is_open

LONGEST = 200_000  # letters that are read as Markdown; what goes beyond is shown as plain text

_SURROGATE = re.compile("[\ud800-\udfff]")
_FENCE = re.compile(r"(`{3,}|~{3,})([^\n]*)\n")
_MAYBE_CLOSING = re.compile(r" {0,3}[`~]+[ \t]*")

_PARSER = make_parser()
_PLAIN_OPENING = clean(code_opening("") + CODE_CLOSING).removesuffix(CODE_CLOSING)

log = logging.getLogger(__name__)


def render(text: str) -> list[str]:
    """The blocks of a finished text."""
    blocks = Blocks()
    blocks.feed(text)
    blocks.finish()
    return blocks.html


@dataclass(slots=True)
class _OpenFence:
    """A top-level code block that has not been closed yet. Its text is only escaped and appended."""

    marker: str
    opening: str
    shown: str  # escaped text of the whole lines
    read: int  # where in the source the next line starts


class Blocks:
    """The blocks of a text that grows.

    ``html`` is the list so far. Its first ``settled`` blocks will not change any more, whatever comes; they are never
    looked at again, so that the cost of a feed depends on the unfinished end alone.
    """

    def __init__(self) -> None:
        self.html: list[str] = []
        self.settled = 0
        self._source = ""  # from the first block that is not settled
        self._room = LONGEST
        self._plain: list[str] = []
        self._after_return = False
        self._fence: _OpenFence | None = None
        self._drawing = Drawing(_PARSER)

    @property
    def in_code(self) -> bool:
        """Whether the text ends inside a code block, which gets its colours when it is closed or the text ends."""
        return self._fence is not None

    def feed(self, text: str) -> None:
        """Append text and bring ``html`` up to date."""
        text = self._tidy(text)
        marked, beyond = text[: self._room], text[self._room :]
        self._room -= len(marked)
        if not self._plain and (marked or not beyond):
            self._source += marked
            if self._fence is None or not self._extend_fence(self._fence):
                self._draw(finished=False)
        if beyond:
            self._append_plain(beyond)

    def finish(self) -> None:
        """The text is complete: the blocks are those of :func:`render`."""
        self._fence = None
        if not self._plain:
            self._draw(finished=True)
        self.settled = len(self.html)

    def _append_plain(self, text: str) -> None:
        """A block of plain text behind what is read as Markdown."""
        if not self._plain:
            self.finish()
            self.html.append("")
        self._plain.append(clean(escape(text, quote=False)))
        self.html[-1] = _PLAIN_OPENING + "".join(self._plain) + CODE_CLOSING

    def _tidy(self, text: str) -> str:
        """Line ends as the parser knows them, also when one is cut in two; no halves of characters."""
        if not text:
            return ""
        if self._after_return and text[0] == "\n":
            text = text[1:]
            self._after_return = False
        if text:
            self._after_return = text[-1] == "\r"
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return _SURROGATE.sub("\ufffd", text.replace("\0", "\ufffd"))

    def _draw(self, *, finished: bool) -> None:
        try:
            self._draw_marked(finished=finished)
        except Exception:  # no message may make its chat unreadable
            log.exception("A message could not be read as Markdown and is shown as plain text")
            self._fence = None
            text = clean(escape(self._source, quote=False))
            self.html[self.settled :] = [_PLAIN_OPENING + text + CODE_CLOSING]

    def _draw_marked(self, *, finished: bool) -> None:
        source = self._source
        tokens: list[Token] = []
        _PARSER.block.parse(source, _PARSER, {}, tokens)
        groups = _top_level(tokens)
        last_line = source.count("\n")  # the line that may still grow
        self._drawing.begin()
        plain_from = -1 if finished else last_line
        del self.html[self.settled :]
        self.html += [self._drawing.block(group, plain_from=plain_from) for group in groups]
        if finished or not groups:
            return
        keep = 1 if _is_settled_start(groups[-1], last_line) else 2
        if len(groups) >= keep:
            self._source = source[_offset(source, _first_line(groups[-keep])) :]
            self.settled += len(groups) - keep
        if keep == 1 and groups[-1][0].type == "fence":
            self._open_fence(groups[-1][0])

    def _open_fence(self, token: Token) -> None:
        """Go over to appending when the source is one code block that is not closed."""
        start = _FENCE.match(self._source)
        if start is None or not is_open(token):
            return
        opening = clean(code_opening(code_language(token.info)) + CODE_CLOSING).removesuffix(CODE_CLOSING)
        fence = _OpenFence(start.group(1), opening, "", start.end())
        self._fence = fence
        if not self._extend_fence(fence):
            self._draw(finished=False)

    def _extend_fence(self, fence: _OpenFence) -> bool:
        """Append to the open code block; False when it has been closed and all must be drawn."""
        source = self._source
        end = source.rfind("\n") + 1
        if end > fence.read:
            lines = source[fence.read : end]
            if fence.marker in lines and any(map(_closing(fence.marker).fullmatch, lines.split("\n"))):
                self._fence = None
                return False
            fence.shown += clean(escape(lines, quote=False))
            fence.read = end
        rest = source[fence.read :]
        if _MAYBE_CLOSING.fullmatch(rest):
            rest = ""  # perhaps the end of the block: not shown before that is known
        del self.html[self.settled :]
        self.html.append(fence.opening + fence.shown + clean(escape(rest, quote=False)) + CODE_CLOSING)
        return True


def _closing(marker: str) -> re.Pattern[str]:
    return re.compile(rf" {{0,3}}{marker[0]}{{{len(marker)},}}[ \t]*")


def _top_level(tokens: list[Token]) -> list[list[Token]]:
    """The tokens of each top-level block."""
    groups: list[list[Token]] = []
    depth = 0
    for token in tokens:
        if depth == 0:
            groups.append([])
        groups[-1].append(token)
        depth += token.nesting
    return groups


def _first_line(group: list[Token]) -> int:
    return group[0].map[0] if group[0].map else 0


def _is_settled_start(group: list[Token], last_line: int) -> bool:
    """Whether a block will begin where it does now, so that those before it are complete.

    Its first line must be whole ("#" may become "#hashtag", which goes on with the paragraph above); of a table the
    second too, which makes the line above it a head.
    """
    return _first_line(group) + (1 if group[0].type == "table_open" else 0) < last_line


def _offset(source: str, line: int) -> int:
    """Where a line starts."""
    at = 0
    for _ in range(line):
        at = source.index("\n", at) + 1
    return at


def changes(old: Sequence[str], new: Sequence[str], start: int = 0) -> list[tuple[int, int, str]]:
    """What makes ``new`` of ``old``: (block, how much of it to keep in UTF-16 units, the rest).

    Blocks before ``start`` are known to be equal. ``new`` may be shorter; cutting is up to the caller.
    """
    found = []
    for i in range(start, len(new)):
        before = old[i] if i < len(old) else ""
        after = new[i]
        if before is after or before == after:
            continue
        keep = common_prefix(before, after)
        found.append((i, units(after, keep), after[keep:]))
    return found


def common_prefix(a: str, b: str) -> int:
    """How many characters two texts have in common at the start."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def units(text: str, end: int) -> int:
    """The length of ``text[:end]`` in UTF-16 units, as JavaScript counts."""
    head = text[:end]
    return end if head.isascii() else len(head.encode("utf-16-le")) // 2

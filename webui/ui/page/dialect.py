"""The Markdown that messages are written in: CommonMark with tables, strikethrough, bare links and LaTeX.

What is left out on purpose: raw HTML is text, and link reference definitions are text, so that a block never depends
on what comes later and a finished block stays finished while a reply streams in.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

LONGEST_FORMULA = 4000  # letters between the signs of one inline formula; also bounds the search for the closing sign
DEEPEST = 40  # lists and quotes inside each other

_LINK = re.compile(r"https?://[^/\s?#@]|mailto:[^\s@]+@", re.IGNORECASE)
_BARE = re.compile(r"://[^\s<>\"`\\^{|}\u3001\u3002\uff01-\uff0f\uff1a-\uff20\u3008-\u3011\u0000-\u001f]+")
_BREAK = re.compile(r"<br\s{0,3}/?>", re.IGNORECASE)
_TEX = re.compile(r"[\\^_={}+*/<>()|-]")
_TEX_SURELY = re.compile(r"[\\^_={}]")
_PROSE = re.compile(r"[A-Za-z]{3,}[,;]?\s+[A-Za-z]{3,}")


def is_link(url: str) -> bool:
    """Whether an address may become a link: http, https and mailto, absolute. Anything else stays text."""
    return _LINK.match(url) is not None


def is_formula(content: str, before: str, after: str) -> bool:
    """Whether what stands between two single dollar signs is LaTeX rather than prices, shell variables or prose.

    ``before`` and ``after`` are the characters around the signs ("" at the ends).
    """
    if not content or content[0].isspace() or content[-1].isspace() or content.endswith("\\"):
        return False
    if before.isalnum() or before in ("$", "\\") or after.isalnum() or after == "$":
        return False
    if content[0].isdigit() and not _TEX_SURELY.search(content):
        return not any(c.isspace() for c in content)
    return "\\" in content or not _PROSE.search(content)


def _dollar(state: StateInline, silent: bool) -> bool:
    """``$$…$$`` and ``$…$`` inside a paragraph."""
    src, pos = state.src, state.pos
    if src[pos] != "$":
        return False
    sign = "$$" if src.startswith("$$", pos) else "$"
    start = pos + len(sign)
    end = src.find(sign, start, min(state.posMax, start + LONGEST_FORMULA))
    if end < 0 or "`" in src[start:end]:
        return False
    content = src[start:end]
    before, after = src[pos - 1 : pos], src[end + len(sign) : end + len(sign) + 1]
    if sign == "$$":
        ok = content.strip() != "" and "$" not in (before, after, content[:1])
        ok = ok and (_TEX.search(content) is not None or len(content.split()) == 1)
    else:
        ok = is_formula(content, before, after)
    if not ok:
        return False
    return _formula(state, silent, content, sign == "$$", end + len(sign))


def _bracket(state: StateInline, silent: bool) -> bool:
    r"""``\(…\)`` and ``\[…\]`` inside a paragraph."""
    src, pos = state.src, state.pos
    opening = src[pos : pos + 2]
    if opening not in ("\\(", "\\["):
        return False
    closing = "\\)" if opening == "\\(" else "\\]"
    end = src.find(closing, pos + 2, min(state.posMax, pos + 2 + LONGEST_FORMULA))
    content = src[pos + 2 : end]
    if end < 0 or not content.strip() or content.endswith("\\"):
        return False
    return _formula(state, silent, content, opening == "\\[", end + 2)


def _formula(state: StateInline, silent: bool, content: str, display: bool, end: int) -> bool:
    if not silent:
        token = state.push("math", "span", 0)
        token.content = content.strip()
        token.meta = {"display": display}
    state.pos = end
    return True


def _break(state: StateInline, silent: bool) -> bool:
    """``<br>``, the one tag that models use inside table cells, as a line break."""
    match = _BREAK.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = match.end()
    return True


def _bare_link(state: StateInline, silent: bool) -> bool:
    """``https://example.org`` without signs around it."""
    src, pos = state.src, state.pos
    if state.linkLevel > 0 or not src.startswith("://", pos):
        return False
    scheme = next((s for s in ("https", "http") if state.pending[-len(s) :].lower() == s), "")
    if not scheme or state.pending[-len(scheme) - 1 : -len(scheme)].isalnum():
        return False
    match = _BARE.match(src, pos, state.posMax)
    if match is None:
        return False
    rest = _without_end(match.group())
    url = state.pending[-len(scheme) :] + rest
    if not is_link(url):
        return False
    if not silent:
        state.pending = state.pending[: -len(scheme)]
        token = state.push("link_open", "a", 1)
        token.attrs = {"href": state.md.normalizeLink(url)}
        state.push("text", "", 0).content = url
        state.push("link_close", "a", -1)
    state.pos = pos + len(rest)
    return True


def _without_end(url: str) -> str:
    """A bare address without the punctuation of the sentence around it; brackets that it opens itself stay."""
    surplus = {")": url.count(")") - url.count("("), "]": url.count("]") - url.count("[")}
    end = len(url)
    while end and (url[end - 1] in "?!.,:;*_~'" or surplus.get(url[end - 1], 0) > 0):
        if url[end - 1] in surplus:
            surplus[url[end - 1]] -= 1
        end -= 1
    return url[:end]


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""``$$ … $$`` and ``\[ … \]`` on lines of their own; a blank line ends them, closed or not.

    That rule lets the extent of the block be known line by line, so that what stands before it never changes.
    """
    if state.is_code_block(start):
        return False
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    if first.startswith("$$") and not first.startswith("$$$"):
        closing = "$$"
    elif first.startswith("\\["):
        closing = "\\]"
    else:
        return False
    inside = first[2:]
    if closing in inside and not inside.rstrip(" \t.,;:").endswith(closing):
        return False  # closed in the middle of the line: a formula in prose
    if silent:
        return True
    lines, line, closed = [inside], start + 1, False
    while True:
        text = lines[-1].rstrip(" \t.,;:")
        if text.endswith(closing) and not text.endswith("\\" + closing):
            lines[-1] = text[: -len(closing)]
            closed = True
            break
        if line >= end or state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            break
        lines.append(state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]])
        line += 1
    token = state.push("math_block", "span", 0)
    token.content = "\n".join(lines).strip() if closed else first[:2] + "\n".join(lines)
    token.meta = {"display": True, "closed": closed}
    token.map = [start, line]
    state.line = line
    return True


def make_parser() -> MarkdownIt:
    """The parser, set up. It keeps nothing between calls."""
    md = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST})
    md.enable(["table", "strikethrough"])
    md.disable(["reference", "html_block", "html_inline"])
    md.block.ruler.before("fence", "math_block", _math_block, {"alt": ["paragraph", "blockquote", "list"]})
    md.inline.ruler.before("escape", "math_bracket", _bracket)
    md.inline.ruler.before("escape", "math_dollar", _dollar)
    md.inline.ruler.before("autolink", "line_break", _break)
    md.inline.ruler.push("bare_link", _bare_link)
    md.validateLink = is_link  # type: ignore[method-assign]  # the library's own way to set the rule
    return md

"""Tokens to HTML that is safe to put into the page.

Two walls: the source's own HTML is text to begin with, so that every tag here is one of ours; then nh3 lets only the
list below pass. Nothing that the browser would fetch is ever written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

from webui.ui.page.highlight import CLASSES, highlight

_ALIGNED = {"data-align": {"left", "center", "right"}}
_CLEANER = nh3.Cleaner(
    tags={
        "p", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "pre", "code", "figure", "table", "thead",
        "tbody", "tr", "th", "td", "em", "strong", "s", "a", "br", "span", "div",
    },
    clean_content_tags=set(),
    attributes={"a": {"href"}, "figure": {"data-lang"}, "ol": {"start"}},
    tag_attribute_values={
        **{tag: {"dir": {"auto"}} for tag in ("p", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote")},
        "div": {"dir": {"auto"}, "tabindex": {"0"}, "role": {"region"}, "aria-label": {"Table"}},
        "figure": {"dir": {"ltr"}},
        "span": {"data-display": {"0", "1"}, "data-done": {"0", "1"}},
        "th": {**_ALIGNED, "scope": {"col"}},
        "td": _ALIGNED,
    },
    set_tag_attribute_values={"a": {"target": "_blank"}},
    allowed_classes={
        "span": {"math", "blocked", "task", *CLASSES},
        "figure": {"code"},
        "div": {"table"},
        "li": {"task"},
    },
    link_rel="noopener noreferrer nofollow",
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
)  # fmt: skip

_LANGUAGE = re.compile(r"[A-Za-z0-9+#_.-]{1,30}")
_TASK = re.compile(r"\[([ xX])\][ \t]+(?=\S)")
_HEADINGS = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6", "h6": "h6"}
_AUTO = frozenset({"paragraph_open", "heading_open", "bullet_list_open", "ordered_list_open", "blockquote_open"})


def clean(html: str) -> str:
    """What of the HTML may reach the page."""
    return _CLEANER.clean(html)


def code_language(info: str) -> str:
    """The language named behind the opening of a code fence, "" when it is not a plain word."""
    words = info.split(None, 1)
    match = _LANGUAGE.fullmatch(words[0]) if words else None
    return match.group().lower() if match else ""


def code_opening(language: str) -> str:
    """The tags before the text of a code block."""
    lang = f' data-lang="{escape(language)}"' if language else ""
    return f'<figure class="code"{lang} dir="ltr"><pre><code>'


CODE_CLOSING = "</code></pre></figure>"


class Drawing:
    """Draws blocks, and keeps what it drew last time: of a growing text only what is new costs anything much."""

    def __init__(self, parser: MarkdownIt) -> None:
        self._parser = parser
        self._old: dict[tuple[str, str], str] = {}
        self._new: dict[tuple[str, str], str] = {}

    def begin(self) -> None:
        """Begin a new drawing; what the last one did not use is forgotten."""
        self._old, self._new = self._new, {}

    def block(self, tokens: Sequence[Token], *, plain_from: int = -1) -> str:
        """The HTML of one top-level block. A fence open at line ``plain_from`` has no colours yet (-1: all have)."""
        out: list[str] = []
        done = ""  # the letter in the box of the task that the next inline text belongs to
        for i, token in enumerate(tokens):
            kind = token.type
            if kind == "inline":
                content = token.content
                if done:
                    out.append(_box(done))
                    content, done = content[_TASK.match(content).end() :], ""  # type: ignore[union-attr]  # _task saw it
                out.append(self._kept("inline", content, self._inline))
            elif token.hidden:
                pass  # the paragraph of a tight list item
            elif kind == "list_item_open":
                done = _task(tokens, i)
                out.append('<li class="task">' if done else "<li>")
            elif kind in ("fence", "code_block"):
                growing = token.map is not None and 0 <= plain_from <= token.map[1] and is_open(token)
                out.append(self._code(token, plain=growing))
            elif kind == "math_block":
                out.append(f'<p dir="auto">{_formula(token)}</p>')
            elif kind == "table_open":
                out.append('<div class="table" dir="auto" tabindex="0" role="region" aria-label="Table"><table>')
            elif kind == "table_close":
                out.append("</table></div>")
            else:
                out.append(_tag(token, whole=i == 0))
        return self._kept("clean", "".join(out), clean)

    def _kept(self, what: str, source: str, make: Callable[[str], str]) -> str:
        key = (what, source)
        html = self._new.get(key)
        if html is None:
            html = self._old.get(key)
            if html is None:
                html = make(source)
            self._new[key] = html
        return html

    def _inline(self, content: str) -> str:
        tokens: list[Token] = []
        self._parser.inline.parse(content, self._parser, {}, tokens)
        return "".join([_inline_tag(token) for token in tokens])

    def _code(self, token: Token, *, plain: bool) -> str:
        language = code_language(token.info)
        text = token.content
        coloured = escape(text, quote=False) if plain else self._kept(language, text, lambda t: highlight(t, language))
        return code_opening(language) + coloured + CODE_CLOSING


def is_open(token: Token) -> bool:
    """Whether a code fence ends without its closing line."""
    if token.type != "fence" or token.map is None:
        return False
    lines = token.content.count("\n") + (not token.content.endswith("\n") and token.content != "")
    return token.map[1] - token.map[0] == lines + 1


def _task(tokens: Sequence[Token], i: int) -> str:
    """The letter in the box that a list item begins with, "" when it begins with none."""
    if i + 2 >= len(tokens) or tokens[i + 2].type != "inline":
        return ""
    match = _TASK.match(tokens[i + 2].content)
    return match.group(1) if match else ""


def _box(letter: str) -> str:
    done = letter != " "
    return f'<span class="task" data-done="{int(done)}">{"☑" if done else "☐"}</span> '


def _tag(token: Token, *, whole: bool) -> str:
    """The tag of a block token; ``whole`` when it opens a top-level block."""
    tag = _HEADINGS.get(token.tag, token.tag)
    if token.nesting < 0:
        return f"</{tag}>"
    attributes = ' dir="auto"' if whole and token.type in _AUTO else ""
    if token.type == "ordered_list_open" and token.attrGet("start") is not None:
        attributes += f' start="{int(token.attrGet("start") or 0)}"'
    elif tag in ("th", "td"):
        attributes += ' scope="col"' if tag == "th" else ""
        side = str(token.attrGet("style") or "").removeprefix("text-align:")
        attributes += f' data-align="{side}"' if side else ""
    return f"<{tag}{attributes}>"


def _inline_tag(token: Token) -> str:
    kind = token.type
    if kind in ("text", "text_special"):
        return escape(token.content, quote=False)
    if kind == "code_inline":
        return f"<code>{escape(token.content, quote=False)}</code>"
    if kind in ("softbreak", "hardbreak"):
        return "<br>"
    if kind == "math":
        return _formula(token)
    if kind == "image":
        address = str(token.attrGet("src") or "") or token.content
        return f'<span class="blocked">remote image blocked: {escape(address, quote=False)}</span>'
    if kind == "link_open":
        return f'<a href="{escape(str(token.attrGet("href") or ""))}">'
    return f"</{token.tag}>" if token.nesting < 0 else f"<{token.tag}>"


def _formula(token: Token) -> str:
    """LaTeX as text, for the page to draw; of a formula that is not closed, the text as it was written."""
    if token.meta.get("closed", True):
        display = int(token.meta["display"])
        return f'<span class="math" data-display="{display}">{escape(token.content, quote=False)}</span>'
    return escape(token.content, quote=False).replace("\n", "<br>")

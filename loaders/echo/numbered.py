"""Markdown of every kind whose tokens carry their number, to measure how a page keeps up."""

from __future__ import annotations

WORDS = "a river stone under the old bridge keeps its time while green light moves across water and wind".split()


def numbered(count: int) -> list[str]:
    """``count`` tokens of Markdown: prose, lists, code, tables, LaTeX and CJK in turn, 40 tokens each.

    Token n holds the number n and no other digit, so that whoever sees the text knows how far it is.
    """
    pieces: list[str] = []
    kinds = (_prose, _list, _code, _table, _latex, _cjk)
    while (left := count - len(pieces)) > 0:
        first = len(pieces)
        make = kinds[first // 40 % len(kinds)] if left >= 40 else _prose
        pieces += make(range(first, first + min(40, left)))
    return pieces


def _prose(numbers: range) -> list[str]:
    tokens = [f" {WORDS[n % len(WORDS)]}{n}" for n in numbers]
    tokens[0] = tokens[0].lstrip().capitalize()
    tokens[-1] += ".\n\n"
    return [f" **bold{n}**" if n % 16 == 5 else token for n, token in zip(numbers, tokens, strict=True)]


def _list(numbers: range) -> list[str]:
    tokens = [f"- point{n}" if n % 5 == 0 else f" {WORDS[n % len(WORDS)]}{n}" for n in numbers]
    return [
        t + ("\n" if n % 5 == 4 else "") + ("\n" if n == numbers[-1] else "")
        for n, t in zip(numbers, tokens, strict=True)
    ]


def _code(numbers: range) -> list[str]:
    forms = ("def f{}(x):\n", "    a{} =", " b{} +", " c{}\n")
    tokens = [forms[n % 4].format(n) for n in numbers]
    tokens[0], tokens[-1] = "```python\n" + tokens[0], tokens[-1] + "```\n\n"
    return tokens


def _table(numbers: range) -> list[str]:
    tokens = [f"| cell{n} " + ("|\n" if n % 4 == 3 else "") for n in numbers]
    tokens[3] += "|---|---|---|---|\n"
    tokens[-1] += "\n"
    return tokens


def _latex(numbers: range) -> list[str]:
    tokens = [rf"\alpha_{{{n}}} + " for n in numbers]
    tokens[0], tokens[-1] = "$$\n" + tokens[0], rf"\sqrt{{x_{{{numbers[-1]}}}}}" + "\n$$\n\n"
    return tokens


def _cjk(numbers: range) -> list[str]:
    tokens = [f"{'春眠不覚暁処処聞啼鳥夜来風雨声花落知多少'[n % 20]}{n}、" for n in numbers]
    tokens[-1] = f"了{numbers[-1]}。\n\n"
    return tokens

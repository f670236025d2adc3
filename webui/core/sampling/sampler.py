"""From logits to a token: the stages in their order, for one request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from webui.core.errors import GenerationFailed
from webui.core.sampling import noise
from webui.core.sampling.breakers import Breakers, find_breakers
from webui.core.sampling.candidates import CAP, Candidates, Floats, Ids
from webui.core.sampling.history import Counts, History, Matches
from webui.core.sampling.naming import bans, biases
from webui.core.sampling.order import active_stages, greedy
from webui.core.sampling.stages import adaptive, cutoffs, repetition, shape
from webui.core.settings import GenerationSettings

Stage = Callable[[Candidates], Candidates]
_COIN = 1  # purpose of the random number that decides whether XTC acts
_FEW = 4096  # up to so many candidates all get their noise at once


def _no_encode(text: str) -> list[int]:
    return []


def _no_bytes(id: int) -> bytes:
    return b""


class Sampler:
    """Draws the tokens of one reply. The settings are checked here; SettingError says what does not fit the model.

    ``sample`` draws and remembers; ``draw`` and ``accept`` are its halves, for a token that is decided elsewhere.
    The same (settings, seed, prompt, logits) give the same tokens; see ``noise``.

    ``encode`` turns text into ids without special tokens, ``token_bytes`` an id into bytes; pass the same
    ``token_bytes`` for every request to a model, since what is found out about a vocabulary is kept by it.
    """

    def __init__(
        self,
        settings: GenerationSettings,
        *,
        vocabulary: int,
        seed: int,
        prompt: Sequence[int] = (),
        eos: Iterable[int] = (),
        newline: Iterable[int] = (),
        encode: Callable[[str], list[int]] = _no_encode,
        token_bytes: Callable[[int], bytes] = _no_bytes,
        cap: int = CAP,
    ) -> None:
        self._s = settings
        self._vocabulary, self._seed, self._cap = vocabulary, seed, cap
        self._history = History(prompt)
        self._eos = self._known(np.array(sorted(eos), dtype=np.int64))
        spared = sorted({*eos, *newline}) if settings.xtc_spare else []
        self._spared = np.array(spared, dtype=np.int64)
        self._greedy = greedy(settings)
        self._names = active_stages(settings)
        self._bias = biases(settings.logit_bias, vocabulary, encode, token_bytes)
        self._bans = bans(settings.banned_tokens, vocabulary, encode, token_bytes)
        favoured = self._history.text() if "encoder_repetition" in self._names else np.zeros(0, dtype=np.int64)
        self._prompt_ids = self._known(np.unique(favoured))
        self._repeated: Counts | None = None
        self._used: Counts | None = None
        self._matches: Matches | None = None
        self._breakers: Breakers | None = None
        if "penalties" in self._names:
            self._start_penalties()
        if "dry" in self._names:
            self._matches = Matches(self._history, settings.penalty_scope)
            texts = settings.dry_sequence_breakers
            self._breakers = find_breakers(token_bytes, vocabulary, texts, encode) if texts else None
        memory = adaptive.begin(settings.mirostat_tau, settings.adaptive_target, settings.adaptive_decay)
        self._memories = [memory]  # one more for each token of the reply
        self._seen: dict[str, Candidates] = {}  # what mirostat and adaptive-p met at the last draw
        table = self._table()
        self._stages: list[Stage] = [table[name] for name in self._names]

    def _start_penalties(self) -> None:
        s, vocabulary = self._s, self._vocabulary
        window = s.repetition_penalty_range
        if s.repetition_penalty != 1 and (s.repetition_penalty_decay == 0 or window < 0):
            self._repeated = Counts(self._history, vocabulary, s.penalty_scope, window)
        if s.frequency_penalty != 0 or s.presence_penalty != 0:
            self._used = Counts(self._history, vocabulary, s.penalty_scope_additive, window)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that have something to do, in the order in which they act."""
        return self._names

    def sample(self, logits: NDArray[np.float32], allowed_to_end: bool = True, banned: Sequence[int] = ()) -> int:
        """Draw a token from a row of logits, remember it, and return its id. The row is not changed.

        No end token is drawn while ``allowed_to_end`` is False, below min_tokens or with ban_eos, unless nothing else
        is possible; ``banned`` are tokens that may not stand at this place. GenerationFailed when the row has no
        number in it.
        """
        id = self.draw(logits, allowed_to_end, banned)
        self.accept(id)
        return id

    def draw(self, logits: NDArray[np.float32], allowed_to_end: bool = True, banned: Sequence[int] = ()) -> int:
        """Draw a token without remembering it."""
        left = self._run(logits, allowed_to_end, banned)
        if self._greedy:
            place = int(np.argmax(left.logits))
        else:
            place = _winner(left, noise.key(self._seed, self._history.reply))
        return place if left.ids is None else int(left.ids[place])

    def distribution(
        self, logits: NDArray[np.float32], allowed_to_end: bool = True, banned: Sequence[int] = ()
    ) -> tuple[Ids, NDArray[np.float64]]:
        """The ids that the next draw can give and their probabilities, the most probable first."""
        left = self._run(logits, allowed_to_end, banned)
        places = left.top(1 if self._greedy else left.count)
        if self._greedy:
            return left.tokens(places[:1]), np.ones(1)
        p = left.probabilities(places)
        return left.tokens(places), p / p.sum()

    def accept(self, id: int) -> None:
        """Remember a token of the reply, drawn here or not."""
        self._memories.append(self._learn(id))
        self._history.add(id)
        for counts in (self._repeated, self._used):
            if counts is not None:
                counts.added(id)
        if self._matches is not None:
            self._matches.added()

    def rewind(self, n: int) -> None:
        """Forget the last ``n`` tokens of the reply; the next draw is that of their place, with the same noise."""
        if not 0 <= n <= self._history.reply:
            raise ValueError(f"There are {self._history.reply} tokens to rewind, not {n}.")
        for _ in range(n):
            last = int(self._history.text()[-1])
            for counts in (self._repeated, self._used):
                if counts is not None:
                    counts.dropping(last)
            self._history.drop(1)
            self._memories.pop()
        if self._matches is not None:
            self._matches.forget()
        self._seen = {}

    def _run(self, logits: NDArray[np.float32], allowed_to_end: bool, banned: Sequence[int]) -> Candidates:
        row = np.asarray(logits, dtype=np.float32)[: self._vocabulary]
        c = Candidates(row, cap=self._cap)
        if not np.isfinite(c.peak):
            raise GenerationFailed(
                "The model gave no usable numbers for the next token.",
                "Load it again; if that does not help, the file is damaged or the engine does not support it.",
            )
        c = self._forbid_end(c, allowed_to_end)
        if banned:
            c = self._ban(c, np.array(banned, dtype=np.int64))
        self._seen = {}
        for stage in self._stages:
            after = stage(c)
            c = after if after.peak > -np.inf else c  # a ban of everything bans nothing
        return c

    def _forbid_end(self, c: Candidates, allowed: bool) -> Candidates:
        if len(self._eos) and (not allowed or self._s.ban_eos or self._history.reply < self._s.min_tokens):
            without = self._ban(c, self._eos)
            return without if without.peak > -np.inf else c
        return c

    def _learn(self, id: int) -> adaptive.Memory:
        """The memory after this token; unchanged when the last draw had no place for it."""
        memory, s = self._memories[-1], self._s
        for name, met in self._seen.items():
            log_p = float(met.logits_of(np.array([id]))[0]) - met.log_total
            if log_p == -np.inf:
                continue
            if name == "mirostat":
                memory = adaptive.mirostat_learn(memory, log_p, s.mirostat_tau, s.mirostat_eta)
            else:
                memory = adaptive.adaptive_learn(memory, float(np.exp(log_p)), s.adaptive_decay)
        self._seen = {}
        return memory

    def _known(self, ids: Ids) -> Ids:
        return ids[ids < self._vocabulary]

    def _ban(self, c: Candidates, ids: Ids) -> Candidates:
        ids = self._known(ids)
        return c.edited(ids, np.full(len(ids), -np.inf, dtype=c.logits.dtype)) if len(ids) else c

    def _table(self) -> dict[str, Stage]:
        """Each stage with this request's settings and memory."""
        s, keep = self._s, self._s.min_keep
        return {
            "logit_bias": lambda c: c.edited(self._bias[0], c.logits_of(self._bias[0]) + self._bias[1]),
            "banned": lambda c: self._ban(c, self._bans),
            "no_repeat_ngram": lambda c: self._ban(
                c, repetition.ngram_bans(self._history.text(), s.no_repeat_ngram_size)
            ),
            "encoder_repetition": self._encoder,
            "penalties": self._penalties,
            "dry": self._dry,
            "top_n_sigma": lambda c: cutoffs.top_n_sigma(c, s.top_n_sigma, keep),
            "top_k": lambda c: cutoffs.top_k(c, s.top_k, keep),
            "typical_p": lambda c: cutoffs.typical_p(c, s.typical_p, keep),
            "tfs": lambda c: cutoffs.tfs(c, s.tfs, keep),
            "top_a": lambda c: cutoffs.top_a(c, s.top_a, keep),
            "epsilon_cutoff": lambda c: cutoffs.epsilon_cutoff(c, s.epsilon_cutoff, keep),
            "eta_cutoff": lambda c: cutoffs.eta_cutoff(c, s.eta_cutoff, keep),
            "top_h": lambda c: cutoffs.top_h(c, s.top_h, keep),
            "top_p": lambda c: cutoffs.top_p(c, s.top_p, keep),
            "min_p": lambda c: cutoffs.min_p(c, s.min_p, keep),
            "xtc": self._xtc,
            "temperature": self._temperature,
            "mirostat": self._mirostat,
            "adaptive": self._adaptive,
            "skew": lambda c: shape.skew(c, s.skew),
        }

    def _encoder(self, c: Candidates) -> Candidates:
        ids = self._prompt_ids
        return c.edited(ids, repetition.encoder_repetition(c.logits_of(ids), self._s.encoder_repetition_penalty))

    def _penalties(self, c: Candidates) -> Candidates:
        s = self._s
        if self._repeated is not None:
            ids, _ = self._repeated.now()
            c = c.edited(ids, repetition.repetition_penalty(c.logits_of(ids), s.repetition_penalty))
        elif s.repetition_penalty != 1:
            window, decay = s.repetition_penalty_range, s.repetition_penalty_decay
            newest_first = self._history.text(s.penalty_scope, window + decay)[::-1]
            ids, age = np.unique(newest_first, return_index=True)
            penalty = repetition.faded(s.repetition_penalty, age + 1, window, decay)
            known = ids < self._vocabulary
            ids = ids[known]
            c = c.edited(ids, repetition.repetition_penalty(c.logits_of(ids), penalty[known]))
        if self._used is not None:
            ids, counts = self._used.now()
            logits = c.logits_of(ids)
            c = c.edited(ids, repetition.additive_penalty(logits, counts, s.frequency_penalty, s.presence_penalty))
        return c

    def _dry(self, c: Candidates) -> Candidates:
        s = self._s
        if self._matches is None:
            return c
        text = self._history.text(s.penalty_scope, s.dry_range)
        limit = self._breakers.limit(text) if self._breakers is not None else len(text)
        matches = self._matches.now()
        ids, less = repetition.dry(
            matches[len(matches) - len(text) :], text,
            multiplier=s.dry_multiplier, base=s.dry_base, allowed=s.dry_allowed_length, limit=limit,
        )  # fmt: skip
        known = ids < self._vocabulary
        if self._breakers is not None:
            known[known] = ~self._breakers.single[ids[known]]
        if not known.any():
            return c
        ids, less = ids[known], less[known]
        return c.edited(ids, (c.logits_of(ids) - less).astype(c.logits.dtype))

    def _xtc(self, c: Candidates) -> Candidates:
        s = self._s
        if noise.uniform(self._seed, self._history.reply, _COIN) >= s.xtc_probability:
            return c
        return cutoffs.xtc(c, s.xtc_threshold, s.min_keep, self._spared)

    def _temperature(self, c: Candidates) -> Candidates:
        s = self._s
        if s.dynamic_temperature:
            c = shape.dynamic_temperature(c, s.dynatemp_low, s.dynatemp_high, s.dynatemp_exponent)
        else:
            c = shape.temperature(c, s.temperature)
        return shape.smoothing(c, s.smoothing_factor, s.smoothing_curve) if s.smoothing_factor > 0 else c

    def _mirostat(self, c: Candidates) -> Candidates:
        mu = self._memories[-1].mu
        two = self._s.mirostat_mode == 2
        c = adaptive.mirostat_2(c, mu) if two else adaptive.mirostat_1(c, mu, self._vocabulary)
        self._seen["mirostat"] = c
        return c

    def _adaptive(self, c: Candidates) -> Candidates:
        self._seen["adaptive"] = c
        return adaptive.adaptive(c, self._memories[-1], self._s.adaptive_target)


def _winner(c: Candidates, key: int) -> int:
    """The place of the candidate with the largest logit + noise: an exact draw (see ``noise``)."""
    logits: Floats = c.logits
    if len(logits) <= _FEW:
        ids = np.arange(len(logits)) if c.ids is None else c.ids
        return int(np.argmax(logits + noise.gumbel(key, ids)))
    head = c.top(min(c.cap, _FEW))
    best = float((logits[head] + noise.gumbel(key, c.tokens(head))).max())
    # Everybody else has at most the last of the head's logits and would need a noise that few have.
    everyone = len(logits) if c.ids is None else c.ids
    places = np.concatenate((head, noise.may_exceed(key, everyone, best - float(logits[head[-1]]))))
    return int(places[np.argmax(logits[places] + noise.gumbel(key, c.tokens(places)))])

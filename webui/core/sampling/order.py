"""Which stages act, in which order, and what a person should know when some cannot."""

from __future__ import annotations

from collections.abc import Callable

from webui.core.errors import SettingError
from webui.core.fields import describe, did_you_mean
from webui.core.loader import Capabilities
from webui.core.sampling.stages.shape import COLDEST
from webui.core.settings import SAMPLER_ORDER, GenerationSettings

#: Stages that edit the logits of single tokens; they act even when the most probable token is taken.
EDITS = ("logit_bias", "banned", "no_repeat_ngram", "encoder_repetition", "penalties", "dry")
#: Stages that drop tokens; ``temperature_last`` moves the temperature behind them.
CUTS = (
    "top_n_sigma", "top_k", "typical_p", "tfs", "top_a", "epsilon_cutoff", "eta_cutoff", "top_h", "top_p", "min_p",
    "xtc",
)  # fmt: skip

#: Whether a stage does anything under these settings.
_ACTIVE: dict[str, Callable[[GenerationSettings], bool]] = {
    "logit_bias": lambda s: bool(s.logit_bias),
    "banned": lambda s: bool(s.banned_tokens),
    "no_repeat_ngram": lambda s: s.no_repeat_ngram_size > 0,
    "encoder_repetition": lambda s: s.encoder_repetition_penalty != 1,
    "penalties": lambda s: (
        s.repetition_penalty_range != 0
        and (s.repetition_penalty != 1 or s.frequency_penalty != 0 or s.presence_penalty != 0)
    ),
    "dry": lambda s: s.dry_multiplier > 0 and s.dry_range != 0,
    "top_n_sigma": lambda s: s.top_n_sigma > 0,
    "top_k": lambda s: s.top_k > 0,
    "typical_p": lambda s: s.typical_p < 1,
    "tfs": lambda s: s.tfs < 1,
    "top_a": lambda s: s.top_a > 0,
    "epsilon_cutoff": lambda s: s.epsilon_cutoff > 0,
    "eta_cutoff": lambda s: s.eta_cutoff > 0,
    "top_h": lambda s: s.top_h > 0,
    "top_p": lambda s: s.top_p < 1,
    "min_p": lambda s: s.min_p > 0,
    "xtc": lambda s: s.xtc_probability > 0 and s.xtc_threshold <= 0.5,
    "temperature": lambda s: s.temperature != 1 or s.dynamic_temperature or s.smoothing_factor > 0,
    "mirostat": lambda s: s.mirostat_mode != 0,
    "adaptive": lambda s: s.adaptive_target > 0,
    "skew": lambda s: s.skew != 0,
}


def greedy(settings: GenerationSettings) -> bool:
    """Whether the most probable token is always taken: temperature 0, unless sampler_order leaves temperature out."""
    return settings.temperature < COLDEST and "temperature" in settings.sampler_order


def stage_order(settings: GenerationSettings) -> tuple[str, ...]:
    """The stages in the order in which they act, ``temperature_last`` counted in. SettingError for an unknown name."""
    order = list(settings.sampler_order)
    for name in order:
        if name not in _ACTIVE:
            raise SettingError("sampler_order", f"sampler_order has no {name!r}.", did_you_mean(name, SAMPLER_ORDER))
    if settings.temperature_last and "temperature" in order:
        cuts = [place for place, name in enumerate(order) if name in CUTS]
        place = order.index("temperature")
        if cuts and cuts[-1] > place:
            order.insert(cuts[-1] + 1, "temperature")
            del order[place]
    return tuple(order)


def active_stages(settings: GenerationSettings) -> tuple[str, ...]:
    """The stages that have something to do, in the order in which they act."""
    allowed = EDITS if greedy(settings) else tuple(_ACTIVE)
    return tuple(name for name in stage_order(settings) if name in allowed and _ACTIVE[name](settings))


def plan(settings: GenerationSettings, capabilities: Capabilities | None = None) -> list[str]:
    """A sentence for everything that is set and will not act, on this loader or at all."""
    out: list[str] = []
    known = describe(GenerationSettings)
    changed = [name for name, s in known.items() if getattr(settings, name) != s.neutral]
    if capabilities is not None:
        out += capabilities.ignored([name for name in changed if name not in ("auto_max_tokens", "max_tokens", "seed")])
    wanted = [name for name in SAMPLER_ORDER if _ACTIVE[name](settings)]
    for name in wanted:
        if name not in settings.sampler_order:
            out.append(f"{name}: it is set, but sampler_order leaves it out.")
    if greedy(settings):
        idle = [n for n in wanted if n in settings.sampler_order and n not in EDITS and n != "temperature"]
        if idle:
            out.append(f"{', '.join(idle)}: no effect, since temperature 0 takes the most probable token.")
    if settings.xtc_probability > 0 and settings.xtc_threshold > 0.5:
        out.append("xtc_probability: no effect, since at most one token can be above an xtc_threshold over 0.5.")
    penalised = settings.repetition_penalty != 1 or settings.frequency_penalty != 0 or settings.presence_penalty != 0
    if penalised and settings.repetition_penalty_range == 0:
        names = "repetition_penalty, frequency_penalty, presence_penalty"
        out.append(f"{names}: no effect with repetition_penalty_range 0.")
    if settings.dry_multiplier > 0 and settings.dry_range == 0:
        out.append("dry_multiplier: no effect with dry_range 0.")
    return out

"""Every sampling setting, once. Meanings and sources: the help texts; the arithmetic: ``webui.core.sampling``.

Defaults are neutral: a fresh GenerationSettings leaves the model's distribution as it is. Window settings read
0 = off, -1 = the whole context, n = the last n tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.fields import setting

#: Default order of the stages: llama.cpp's, with temperature last.
SAMPLER_ORDER = (
    "logit_bias",
    "banned",
    "no_repeat_ngram",
    "encoder_repetition",
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typical_p",
    "tfs",
    "top_a",
    "epsilon_cutoff",
    "eta_cutoff",
    "top_h",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "mirostat",
    "adaptive",
    "skew",
)
SHAPE, CUT, STATE, REPEAT = "Shape", "Cut-offs", "Adaptive", "Repetition"
LENGTH, TOKENS, THINKING = "Length and stops", "Tokens", "Thinking"


@dataclass(frozen=True)
class GenerationSettings:
    """How a reply is drawn from the model's distribution, and when it ends."""

    temperature: float = setting(
        1.0,
        "Divides the logits. Lower is more predictable, higher more surprising; 0 always takes the most probable token.",
        group=SHAPE,
        form=(0, 5, 0.01),
        valid=(0, 1000),
        aliases=("temp",),
    )
    dynamic_temperature: bool = setting(
        False,
        "Chooses the temperature anew for each token, between dynatemp_low and dynatemp_high, by how unsure the model is.",
        group=SHAPE,
        source="kalomaze, entropy-based dynamic temperature",
    )
    dynatemp_low: float = setting(
        1.0, "Temperature used when the model is sure.", group=SHAPE, form=(0, 5, 0.01), valid=(0, 1000)
    )
    dynatemp_high: float = setting(
        1.0, "Temperature used when the model is unsure.", group=SHAPE, form=(0, 5, 0.01), valid=(0, 1000)
    )
    dynatemp_exponent: float = setting(
        1.0, "Bends the way from low to high; 1 is straight.", group=SHAPE, form=(0, 5, 0.01), valid=(0, 100)
    )
    smoothing_factor: float = setting(
        0.0,
        "Quadratic sampling: presses improbable tokens down and evens out the probable ones. 0 is off.",
        group=SHAPE,
        form=(0, 10, 0.01),
        valid=(0, 100),
        source="kalomaze, quadratic sampling",
    )
    smoothing_curve: float = setting(
        1.0,
        "Cubic part of the smoothing; above 1 the top tokens stay closer together.",
        group=SHAPE,
        form=(1, 10, 0.01),
        valid=(1, 100),
    )
    temperature_last: bool = setting(
        False, "Applies the temperature behind all cut-offs, wherever sampler_order has it.", group=SHAPE
    )
    skew: float = setting(
        0.0,
        "Above 0 the draw leans to improbable tokens, below 0 to probable ones. 0 is off.",
        group=SHAPE,
        form=(-5, 5, 0.01),
        valid=(-20, 20),
    )

    top_k: int = setting(
        0,
        "Keeps the k most probable tokens. 0 is off; 40 is common.",
        group=CUT,
        form=(0, 200, 1),
        valid=(0, 1_000_000),
    )
    top_p: float = setting(
        1.0,
        "Keeps the smallest set of tokens whose probabilities add up to p. 1 is off; 0.9 to 0.95 is common.",
        group=CUT,
        form=(0, 1, 0.01),
        valid=(0, 1),
        source="Holtzman 2019, arXiv:1904.09751",
    )
    min_p: float = setting(
        0.0,
        "Drops tokens less probable than min_p times the most probable one. 0 is off; 0.05 to 0.1 is common.",
        group=CUT,
        form=(0, 1, 0.01),
        valid=(0, 1),
        source="Nguyen 2024, arXiv:2407.01082",
    )
    top_n_sigma: float = setting(
        0.0,
        "Keeps tokens whose logit is within n standard deviations of the best one. 0 is off; 1 is common.",
        group=CUT,
        form=(0, 5, 0.01),
        valid=(0, 100),
        source="Tang 2024, arXiv:2411.07641",
    )
    typical_p: float = setting(
        1.0,
        "Keeps the tokens whose surprise is closest to the expected surprise, up to mass p. 1 is off.",
        group=CUT,
        form=(0, 1, 0.01),
        valid=(0, 1),
        aliases=("typical", "typ_p"),
        source="Meister 2022, arXiv:2202.00666",
    )
    tfs: float = setting(
        1.0,
        "Tail-free sampling: cuts where the sorted probabilities stop falling steeply. 1 is off.",
        group=CUT,
        form=(0, 1, 0.01),
        valid=(0, 1),
        aliases=("tfs_z",),
    )
    top_a: float = setting(
        0.0,
        "Drops tokens less probable than a times the square of the most probable one. 0 is off.",
        group=CUT,
        form=(0, 1, 0.01),
        valid=(0, 1),
    )
    top_h: float = setting(
        0.0,
        "Keeps a set whose entropy is at most h times the entropy of all. 0 is off.",
        group=CUT,
        form=(0, 1, 0.01),
        valid=(0, 1),
        source="arXiv:2509.02510",
    )
    epsilon_cutoff: float = setting(
        0.0,
        "Drops tokens less probable than this many ten-thousandths. 0 is off; 3 is common.",
        group=CUT,
        form=(0, 9, 0.01),
        valid=(0, 10_000),
        source="Hewitt 2022, arXiv:2210.15191",
    )
    eta_cutoff: float = setting(
        0.0,
        "Like epsilon_cutoff, but gentler when the model is unsure; in ten-thousandths. 0 is off.",
        group=CUT,
        form=(0, 20, 0.01),
        valid=(0, 10_000),
        source="Hewitt 2022, arXiv:2210.15191",
    )
    xtc_threshold: float = setting(
        0.1,
        "XTC removes tokens more probable than this, except the least probable of them. Above 0.5 it does nothing.",
        group=CUT,
        form=(0, 0.5, 0.01),
        valid=(0, 1),
        source="p-e-w, exclude top choices",
    )
    xtc_probability: float = setting(
        0.0,
        "How often XTC acts. 0 is off; 0.5 is common for creative writing.",
        group=CUT,
        form=(0, 1, 0.01),
        valid=(0, 1),
    )
    xtc_spare: bool = setting(True, "XTC never removes newlines and end tokens.", group=CUT)
    min_keep: int = setting(1, "No cut-off leaves fewer tokens than this.", group=CUT, form=(1, 20, 1), valid=(1, 1000))

    mirostat_mode: int = setting(
        0,
        "Mirostat keeps the surprise of the text near a target. 0 is off; 1 and 2 are the two published versions.",
        group=STATE,
        choices=(0, 1, 2),
        source="Basu 2020, arXiv:2007.14966",
    )
    mirostat_tau: float = setting(
        5.0,
        "The surprise that mirostat aims for; lower is more predictable.",
        group=STATE,
        form=(0, 10, 0.01),
        valid=(0, 100),
    )
    mirostat_eta: float = setting(
        0.1, "How fast mirostat corrects itself.", group=STATE, form=(0, 1, 0.01), valid=(0, 10)
    )
    adaptive_target: float = setting(
        0.0,
        "Adaptive-p prefers tokens whose probability keeps the average near this target. 0 is off.",
        group=STATE,
        form=(0, 1, 0.01),
        valid=(0, 1),
    )
    adaptive_decay: float = setting(
        0.9, "How long adaptive-p remembers; higher is longer.", group=STATE, form=(0, 0.99, 0.01), valid=(0, 0.99)
    )

    repetition_penalty: float = setting(
        1.0,
        "Makes tokens that were used before less probable. 1 is off; 1.05 to 1.15 is common, more harms the text.",
        group=REPEAT,
        form=(0.5, 2, 0.01),
        valid=(0.01, 10),
        aliases=("repeat_penalty", "rep_pen"),
        source="Keskar 2019, arXiv:1909.05858",
    )
    repetition_penalty_range: int = setting(
        -1,
        "How many of the last tokens the penalties look at. 0 is none, -1 the whole context.",
        group=REPEAT,
        form=(-1, 8192, 1),
        valid=(-1, None),
        aliases=("repeat_last_n", "rep_pen_range"),
    )
    repetition_penalty_decay: int = setting(
        0,
        "Lets repetition_penalty fade out over this many tokens behind its range.",
        group=REPEAT,
        form=(0, 8192, 1),
        valid=(0, None),
    )
    frequency_penalty: float = setting(
        0.0,
        "Lowers a token's logit by this much for each time it was used. 0 is off.",
        group=REPEAT,
        form=(-2, 2, 0.05),
        valid=(-100, 100),
    )
    presence_penalty: float = setting(
        0.0,
        "Lowers a token's logit by this much once it was used at all. 0 is off.",
        group=REPEAT,
        form=(-2, 2, 0.05),
        valid=(-100, 100),
    )
    penalty_scope: str = setting(
        "all",
        "Whether repetition_penalty and DRY also count the prompt (all) or only the reply.",
        group=REPEAT,
        choices=("all", "reply"),
    )
    penalty_scope_additive: str = setting(
        "reply", "The same for frequency_penalty and presence_penalty.", group=REPEAT, choices=("all", "reply")
    )
    encoder_repetition_penalty: float = setting(
        1.0,
        "Above 1 favours tokens that occur in the prompt. 1 is off.",
        group=REPEAT,
        form=(0.8, 1.5, 0.01),
        valid=(0.01, 10),
    )
    no_repeat_ngram_size: int = setting(
        0, "Never writes the same n tokens in a row twice. 0 is off.", group=REPEAT, form=(0, 20, 1), valid=(0, 1000)
    )
    dry_multiplier: float = setting(
        0.0,
        "DRY: strength of the penalty on continuing a sequence that occurred before. 0 is off; 0.8 is common.",
        group=REPEAT,
        form=(0, 5, 0.01),
        valid=(0, 100),
        source="p-e-w, Don't Repeat Yourself",
    )
    dry_base: float = setting(
        1.75,
        "DRY: how fast the penalty grows with the length of the repeated sequence.",
        group=REPEAT,
        form=(1, 4, 0.01),
        valid=(1, 100),
    )
    dry_allowed_length: int = setting(
        2, "DRY: longest sequence that may repeat without penalty.", group=REPEAT, form=(1, 20, 1), valid=(0, 1000)
    )
    dry_range: int = setting(
        -1,
        "DRY: how many of the last tokens it looks at. 0 is none, -1 the whole context.",
        group=REPEAT,
        form=(-1, 8192, 1),
        valid=(-1, None),
    )
    dry_sequence_breakers: tuple[str, ...] = setting(
        ("\n", ":", '"', "*"),
        "DRY: texts that end a sequence, so that names and list markers may repeat.",
        group=REPEAT,
    )

    max_tokens: int = setting(
        512,
        "Longest reply, in tokens.",
        group=LENGTH,
        form=(1, 8192, 1),
        valid=(0, 1_000_000),
        aliases=("max_new_tokens", "n_predict", "num_predict"),
    )
    auto_max_tokens: bool = setting(
        True,
        "Lets a reply use all that is left of the context; max_tokens is then the room kept free for it.",
        group=LENGTH,
        neutral=False,
    )
    min_tokens: int = setting(
        0,
        "The reply does not end before this many tokens.",
        group=LENGTH,
        form=(0, 2048, 1),
        valid=(0, 1_000_000),
        aliases=("min_new_tokens",),
    )
    stop: tuple[str, ...] = setting(
        (), "Texts that end the reply; they are not shown.", group=LENGTH, aliases=("stopping_strings",)
    )
    ban_eos: bool = setting(
        False,
        "Never lets the model end by itself; the reply ends at max_tokens or a stop text.",
        group=LENGTH,
        aliases=("ignore_eos", "ban_eos_token"),
    )
    truncation_length: int = setting(
        0,
        "Uses at most this many tokens of context; older messages go first. 0 uses all that the model has.",
        group=LENGTH,
        form=(0, 131072, 256),
        valid=(0, None),
    )
    seed: int = setting(
        -1,
        "The same seed, model, loader and request give the same text. -1 draws one, which is stored with the reply.",
        group=LENGTH,
        valid=(-1, 2**63 - 1),
    )
    max_tokens_per_second: float = setting(
        0.0, "Slows the reply down to reading speed. 0 is off.", group=LENGTH, form=(0, 50, 1), valid=(0, 10_000)
    )

    add_bos: str = setting(
        "auto",
        "Whether the prompt begins with the model's start token. auto does what the model asks for and never doubles it.",
        group=TOKENS,
        choices=("auto", "on", "off"),
    )
    skip_special: bool = setting(True, "Leaves the model's control tokens out of the text.", group=TOKENS, neutral=True)
    logit_bias: dict[str, float] = setting(
        {}, 'Adds to the logit of a token, named by id or by text, such as {"15339": 2, " hello": -5}.', group=TOKENS
    )
    banned_tokens: tuple[str, ...] = setting(
        (), "Tokens that are never drawn, named by id or by text.", group=TOKENS, aliases=("custom_token_bans",)
    )
    sampler_order: tuple[str, ...] = setting(
        SAMPLER_ORDER,
        "The order in which the stages act; a stage that is left out does nothing.",
        group=TOKENS,
        choices=SAMPLER_ORDER,
        aliases=("sampler_priority", "samplers"),
    )

    enable_thinking: str = setting(
        "template",
        "Asks the model to think before it answers, where its template knows how.",
        group=THINKING,
        choices=("template", "on", "off"),
    )
    reasoning_effort: str = setting(
        "template",
        "How long the model thinks, where its template knows how.",
        group=THINKING,
        choices=("template", "low", "medium", "high"),
    )

    def __hash__(self) -> int:
        return hash(repr(self))

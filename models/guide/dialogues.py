"""Makes the chats that the guide is trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from models.guide import seeds
from models.guide.phrasing import Phrasing
from models.guide.seeds import Intent

#: How often a topic is drawn, relative to one ordinary intent.
WEIGHTS = {"refuse": 14.0, "hello": 1.5, "who": 1.5, "ok": 0.8, "rude": 0.8}
PAIRS_WEIGHT = 9.0
SETTING_WEIGHT = 0.75
#: Values that people name in questions about a setting.
NUMBERS = "0 0 1 1 2 5 0.5 0.1 0.05 0.8 0.9 0.95 1.1 1.5 40 100 -1".split()
#: How people go on from one setting to the next.
NEXT_SETTING = [
    *("and {s}", "and {s}?", "what about {s}", "and what about {s}", "how about {s}", "{s}?"),
    *("and what does {s} do", "ok and {s}"),
]


@dataclass(frozen=True)
class Dialogue:
    """A system prompt (or none) and turns of question and answer."""

    system: str
    turns: tuple[tuple[str, str], ...]
    intents: tuple[str, ...]

    def messages(self) -> list[dict[str, str]]:
        """The chat as a template takes it."""
        made = [{"role": "system", "content": self.system}] if self.system else []
        for question, answer in self.turns:
            made += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return made


class Dialogues:
    """Draws dialogues; ``held_back`` of the seeds are never drawn, they are what ``held_back_questions`` gives."""

    def __init__(self, held_back: float = 0.0) -> None:
        self.phrases = seeds.phrases()
        self.phrasing = Phrasing(self.phrases)
        self.intents = seeds.intents()
        self.settings = [intent for intent in self.intents if intent.is_setting]
        self.topics = [intent for intent in self.intents if not intent.is_setting]
        self.share = held_back
        self.forbidden = seeds.kept_for_tests()
        self.strength = 1.0  # how much questions are dressed
        self._by_name = {intent.name: intent for intent in self.intents}
        self._with_reasons = [intent for intent in self.topics if intent.why or intent.more]
        self._kept = {intent.name: self._split(intent, False) for intent in self.intents}
        self._setting_questions = [text for text in self.phrases["setting_questions"] if not self._out(text)]
        self._choices: list[Intent | None] = [*self.intents, None]
        self._weights = [self._weight(intent) for intent in self.intents] + [PAIRS_WEIGHT]

    def draw(self, rng: random.Random, count: int = 1, instructed: bool = False) -> Dialogue:
        """One dialogue of so many turns, with a system prompt when it is instructed."""
        system = self._system(rng) if instructed else ""
        made: list[tuple[str, str]] = []
        names: list[str] = []
        while len(made) < count:
            last = self._by_name.get(names[-1]) if names else None
            before = self._by_name.get(names[-2]) if len(names) > 1 else None
            if last is not None and before is not None and self._are_two(before, last) and rng.random() < 0.2:
                asked = self.phrasing.dressed(rng.choice(self.phrases["difference_questions"]), rng, 0.4)
                name, question, answer = "pair", asked, compared(before, last)
            elif last is not None and rng.random() < self._follow_up_chance(last):
                name, question, answer = self._follow_up(last, made[-1][1], rng)
            elif count > 1 and rng.random() < 0.25:
                name, question, answer = self._fresh(rng, rng.choice(self._with_reasons))
            else:
                name, question, answer = self._fresh(rng)
            made.append((question, answer))
            names.append(name)
        return Dialogue(system, tuple(made), tuple(names))

    def held_back_questions(self, seed: int = 1) -> list[tuple[str, str, str]]:
        """(intent, question, answer) for every seed that training never sees, with little dressing."""
        rng = random.Random(seed)
        made = []
        for intent in self.intents:
            verbs, nouns, questions = self._split(intent, True)
            texts = (
                [self.phrasing.from_verb(text, rng) for text in verbs]
                + [self.phrasing.from_noun(text, rng) for text in nouns]
                + list(questions)
            )
            made += [(intent.name, self.phrasing.dressed(text, rng, 0.3), intent.answers[0]) for text in texts]
        for text in (text for text in self.phrases["setting_questions"] if self._out(text)):
            for intent in rng.sample(self.settings, 4):
                made.append((intent.name, self._named(text, intent, rng), intent.answers[0]))
        return made

    def sentences(self) -> list[str]:
        """Everything the guide says, once."""
        every = self.intents
        return [text for intent in every for text in (*intent.answers, intent.why, intent.more, intent.values) if text]

    # ------------------------------------------------------------------ one turn

    def _fresh(self, rng: random.Random, chosen: Intent | None = None) -> tuple[str, str, str]:
        while True:
            intent = chosen or rng.choices(self._choices, self._weights)[0]
            made = self._pair(rng) if intent is None else (intent.name, self.question(intent, rng), intent.answers[0])
            if seeds.plain(made[1]) not in self.forbidden:
                return made

    def question(self, intent: Intent, rng: random.Random) -> str:
        """One way to ask for this intent."""
        verbs, nouns, questions = self._kept[intent.name]
        if intent.is_setting and (not questions or rng.random() < 0.8):
            return self._named(rng.choice(self._setting_questions), intent, rng)
        if intent.name == "refuse" and rng.random() < 0.6:
            text = self._off_topic(rng)
        else:
            at = rng.randrange(len(verbs) + len(nouns) + len(questions)) if intent.size else 0
            share = rng.choice([0, 0, 0.3, 0.6])
            if at < len(verbs):
                text = self.phrasing.from_verb(self.phrasing.reworded(verbs[at], rng, share), rng)
            elif at < len(verbs) + len(nouns):
                text = self.phrasing.from_noun(nouns[at - len(verbs)], rng)
            else:
                text = questions[at - len(verbs) - len(nouns)]
                text = text if intent.topic in ("guide", "refusals") else self.phrasing.reworded(text, rng, share * 0.7)
        return self.phrasing.dressed(text, rng, self.strength * (0.5 if intent.topic == "guide" else 1.0))

    def _named(self, template: str, intent: Intent, rng: random.Random) -> str:
        template = self.phrasing.reworded(template, rng, rng.choice([0, 0, 0.4]))
        number = rng.choice(NUMBERS)
        return self.phrasing.dressed(
            template.replace("{x}", number).replace("{s}", self._name(intent, rng)), rng, self.strength
        )

    def _name(self, intent: Intent, rng: random.Random) -> str:
        name = rng.choice(intent.names) if rng.random() < 0.5 else rng.choice(intent.names[:3])
        if rng.random() < 0.08:
            joined = name.replace("_", "").replace(" ", "")
            name = rng.choice([name.upper(), name.title(), name.replace("_", "-"), f'"{name}"', f"`{name}`", joined])
        return name

    def _pair(self, rng: random.Random) -> tuple[str, str, str]:
        if rng.random() < 0.6:
            first, second = (self._by_name[name] for name in rng.choice(self.phrases["pairs"]))
        else:
            first, second = rng.sample(self.settings, 2)
        if rng.random() < 0.5:
            first, second = second, first
        template = rng.choice(self.phrases["pair_questions"])
        asked = template.replace("{a}", self._name(first, rng)).replace("{b}", self._name(second, rng))
        return "pair", self.phrasing.dressed(asked, rng, self.strength), compared(first, second)

    def _follow_up(self, last: Intent, said: str, rng: random.Random) -> tuple[str, str, str]:
        kinds = ["why", "more", "again"] + ["why"] * 3 * bool(last.why) + ["more"] * 3 * bool(last.more)
        if last.is_setting:
            kinds += ["values"] * 5 + ["other"] * 6
        kind = rng.choice(kinds)
        if kind == "other":
            intent = rng.choice(self.settings)
            asked = rng.choice(NEXT_SETTING)
            return intent.name, self._named(asked, intent, rng), intent.answers[0]
        table = {
            "values": ("values_followups", last.values),
            "why": ("why_questions", last.why or self.phrases["why_default"]),
            "more": ("more_questions", last.more or last.values or self.phrases["more_default"]),
            "again": ("again_questions", said),
        }
        list_name, answer = table[kind]
        return last.name, self.phrasing.dressed(rng.choice(self.phrases[list_name]), rng, 0.4), answer

    def _follow_up_chance(self, last: Intent) -> float:
        return 0.45 if last.is_setting else 0.45 if last.why or last.more else 0.12

    def _are_two(self, first: Intent, second: Intent) -> bool:
        return first.is_setting and second.is_setting and first is not second

    def _system(self, rng: random.Random) -> str:
        if rng.random() < 0.4:
            return str(rng.choice(self.phrases["systems"]))
        slots = self.phrases["refuse_slots"]
        who = rng.choice(
            [*slots["TOPIC"], *slots["WORK"], *slots["PERSON"], *self.phrases["roles"], *self.phrases["roles"]]
        )
        rule = rng.choice(self.phrases["rules"])
        return str(
            rng.choice(
                [f"You are {who}. {rule}", f"You are a {who}.", f"{rule}", f"You are an expert on {who}. {rule}"]
            )
        )

    def _off_topic(self, rng: random.Random) -> str:
        words = rng.choice(self.phrases["refuse_patterns"]).split(" ")
        slots = self.phrases["refuse_slots"]
        return " ".join(
            str(rng.randint(2, 999)) if word == "NUM" else str(rng.choice(slots[word])) if word in slots else word
            for word in words
        )

    # ------------------------------------------------------------------ what is held back

    def _out(self, text: str) -> bool:
        return seeds.kept_out(text, self.share)

    def _split(self, intent: Intent, out: bool) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        def part(texts: list[str]) -> list[str]:
            return [text for text in texts if self._out(text) == out] if intent.size >= 8 else ([] if out else texts)

        return part(intent.verbs), part(intent.nouns), part(intent.questions)

    def _weight(self, intent: Intent) -> float:
        if intent.is_setting:
            return SETTING_WEIGHT
        return WEIGHTS.get(intent.name, min(1.6, max(0.5, (intent.size / 30) ** 0.5)))


def compared(first: Intent, second: Intent) -> str:
    """Two settings side by side, in one sentence."""
    return f"{first.name} {first.gloss}; {second.name} {second.gloss}."

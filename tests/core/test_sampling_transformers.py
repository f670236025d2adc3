"""The reference stages against those of Transformers, on the same logits."""

import numpy as np
import pytest
import torch
import transformers.generation.logits_process as theirs

from webui.core.sampling import Sampler
from webui.core.settings import GenerationSettings

VOCABULARY = 20_000
PROMPT = np.random.default_rng(0).integers(0, 300, 200).tolist()
CASES = {
    "temperature": (lambda: theirs.TemperatureLogitsWarper(0.7), {"temperature": 0.7}),
    "top_k": (lambda: theirs.TopKLogitsWarper(50), {"top_k": 50}),
    "top_p": (lambda: theirs.TopPLogitsWarper(0.9), {"top_p": 0.9}),
    "top_p with min_keep": (lambda: theirs.TopPLogitsWarper(0.01, -np.inf, 4), {"top_p": 0.01, "min_keep": 4}),
    "min_p": (lambda: theirs.MinPLogitsWarper(0.05), {"min_p": 0.05}),
    "typical_p": (lambda: theirs.TypicalLogitsWarper(0.6), {"typical_p": 0.6}),
    "top_h": (lambda: theirs.TopHLogitsWarper(0.4), {"top_h": 0.4}),
    "epsilon_cutoff": (lambda: theirs.EpsilonLogitsWarper(3e-4), {"epsilon_cutoff": 3}),
    "eta_cutoff": (lambda: theirs.EtaLogitsWarper(9e-4), {"eta_cutoff": 9}),
    "repetition_penalty": (lambda: theirs.RepetitionPenaltyLogitsProcessor(1.3), {"repetition_penalty": 1.3}),
    "encoder_repetition_penalty": (
        lambda: theirs.EncoderRepetitionPenaltyLogitsProcessor(1.3, torch.tensor([PROMPT])),
        {"encoder_repetition_penalty": 1.3},
    ),
    "no_repeat_ngram_size 1": (lambda: theirs.NoRepeatNGramLogitsProcessor(1), {"no_repeat_ngram_size": 1}),
    "no_repeat_ngram_size 2": (lambda: theirs.NoRepeatNGramLogitsProcessor(2), {"no_repeat_ngram_size": 2}),
    "guided by all": (
        lambda: theirs.LogitsProcessorList(
            [
                theirs.RepetitionPenaltyLogitsProcessor(1.2),
                theirs.TopKLogitsWarper(100),
                theirs.TopPLogitsWarper(0.95),
                theirs.MinPLogitsWarper(0.02),
                theirs.TemperatureLogitsWarper(1.4),
            ]
        ),
        {"repetition_penalty": 1.2, "top_k": 100, "top_p": 0.95, "min_p": 0.02, "temperature": 1.4},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_a_stage_leaves_what_transformers_leaves(case, spread):
    make, settings = CASES[case]
    rng = np.random.default_rng(len(case))
    row = rng.normal(0, spread, VOCABULARY).astype(np.float32)
    row[rng.integers(0, VOCABULARY, 30)] += rng.uniform(3, 10, 30).astype(np.float32)
    row[:300] += 2
    scores = make()(torch.tensor([PROMPT]), torch.tensor(row)[None].clone())
    expected = torch.softmax(scores[0].double(), dim=-1).numpy()
    ids, p = Sampler(GenerationSettings(**settings), vocabulary=VOCABULARY, seed=1, prompt=PROMPT).distribution(row)
    got = np.zeros(VOCABULARY)
    got[ids] = p
    assert np.abs(got - expected).sum() / 2 <= 2e-4

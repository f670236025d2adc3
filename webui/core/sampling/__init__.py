"""The reference sampler: what every setting means, and what every loader that gives logits runs.

One small pure function per stage (``stages``), composed in ``sampler_order`` by ``Sampler``. Needs numpy; engines
import it, the web process does not have to.
"""

from __future__ import annotations

from webui.core.sampling.order import plan
from webui.core.sampling.sampler import Sampler

__all__ = ["Sampler", "plan"]

"""Keys and values that grow in place. Transformers' own layer copies the whole conversation for every token."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

STEP = 512  # tokens by which a buffer grows at least


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # Transformers types this in part
    """A layer of full attention over a buffer with room to spare."""

    def __init__(self, **_: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the same
        self.count = 0
        self._room = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values; what is there now."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        need = self.count + key_states.shape[-2]
        if need > self._room:
            self._grow(need, key_states, value_states)
        self._keys[:, :, self.count : need].copy_(key_states)
        self._values[:, :, self.count : need].copy_(value_states)
        return self.cut(need)

    def _grow(self, need: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._room = max(need, self._room * 3 // 2) // STEP * STEP + STEP
        grown = []
        for name, like in (("_keys", keys), ("_values", values)):
            buffer = like.new_empty((*like.shape[:2], self._room, like.shape[-1]))
            if self.count:
                buffer[:, :, : self.count].copy_(getattr(self, name)[:, :, : self.count])
            grown.append(buffer)
        self._keys, self._values = grown

    def cut(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the layer hold the first ``count`` tokens; their keys and values."""
        self.count = count
        found = self._keys.narrow(2, 0, count), self._values.narrow(2, 0, count)
        self.keys, self.values = found
        return found

    def get_seq_length(self) -> int:
        """Tokens held."""
        return self.count

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last ones, given as a negative number."""
        if tokens_to_remove and self.is_initialized:
            self.cut(max(0, self.count - abs(tokens_to_remove)))

    def reset(self) -> None:
        """Drop all."""
        if self.is_initialized:
            self.cut(0)

    @property
    def size(self) -> int:
        """Bytes of the buffers."""
        if not self._room:
            return 0
        return sum(b.numel() * b.element_size() for b in (self._keys, self._values))


def growing_cache(config: Any) -> Any:
    """A cache for a model: full-attention layers grow in place, others are Transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def cut(cache: Any, count: int) -> bool:
    """Let a cache hold the first ``count`` tokens; False when one of its layers cannot."""
    if not all(isinstance(layer, GrowingLayer) for layer in cache.layers):
        return False
    for layer in cache.layers:
        if layer.is_initialized and layer.count > count:
            layer.cut(count)
    return True


def size(cache: Any) -> int:
    """Bytes of a cache, as far as it is known."""
    return sum(layer.size for layer in cache.layers if isinstance(layer, GrowingLayer))

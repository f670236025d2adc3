"""What is kept on the disk: chats, presets and settings."""

from __future__ import annotations

from webui.runtime.stores.chats import ChatStore
from webui.runtime.stores.presets import PresetStore, StoredPreset
from webui.runtime.stores.rows import ChatSummary
from webui.runtime.stores.search import Hit
from webui.runtime.stores.settings import SettingsStore

__all__ = ["ChatStore", "ChatSummary", "Hit", "PresetStore", "SettingsStore", "StoredPreset"]

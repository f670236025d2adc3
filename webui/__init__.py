"""Patchbay: what loaders and extensions import. Light: no engine, no Gradio, no numpy."""

from __future__ import annotations

from webui.core.chat import Character, Chat, Message, Turn
from webui.core.errors import (
    BadName,
    Busy,
    Conflict,
    DiskFull,
    ExtensionFailed,
    GenerationFailed,
    LoaderUnavailable,
    LoadFailed,
    NoModelLoaded,
    NotFound,
    PatchbayError,
    PresetError,
    PromptTooLong,
    SettingError,
    StoreError,
    TemplateError,
)
from webui.core.events import Attachment, Event, Failed, Finish, Progress, Sampled, Started, Token
from webui.core.fields import build, describe, setting
from webui.core.loader import (
    Capabilities,
    Engine,
    Job,
    Loader,
    MemoryReport,
    ModelInfo,
    ModelSpec,
    OneAtATime,
)
from webui.core.settings import GenerationSettings
from webui.runtime.hooks import API_VERSION, hookimpl

__all__ = [
    "API_VERSION",
    "Attachment",
    "BadName",
    "Busy",
    "Capabilities",
    "Character",
    "Chat",
    "Conflict",
    "DiskFull",
    "Engine",
    "Event",
    "ExtensionFailed",
    "Failed",
    "Finish",
    "GenerationFailed",
    "GenerationSettings",
    "Job",
    "LoadFailed",
    "Loader",
    "LoaderUnavailable",
    "MemoryReport",
    "Message",
    "ModelInfo",
    "ModelSpec",
    "NoModelLoaded",
    "NotFound",
    "OneAtATime",
    "PatchbayError",
    "PresetError",
    "Progress",
    "PromptTooLong",
    "Sampled",
    "SettingError",
    "Started",
    "StoreError",
    "TemplateError",
    "Token",
    "Turn",
    "build",
    "describe",
    "hookimpl",
    "setting",
]

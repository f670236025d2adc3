"""The errors a person can meet. Each says what happened and, in its hint, what to do about it.

PatchbayError
├── SettingError         a value that a setting cannot take (names the field and its range)
├── PresetError          a preset file that cannot be read or written
├── LoaderUnavailable    an engine that is not installed or does not run on this machine
├── LoadFailed           a model that could not be loaded
├── NoModelLoaded        a reply was asked for and no model is chosen
├── GenerationFailed     an engine that failed or died while it was writing
├── PromptTooLong        a conversation that does not fit the context, even shortened
├── TemplateError        a chat template that does not render
├── StoreError           something that could not be saved or read
│   ├── NotFound         no such chat, message, preset or model
│   ├── Conflict         somebody else changed it first
│   ├── BadName          a name that no file may have
│   └── DiskFull         no room left; nothing was lost
├── Busy                 too much at once; try again later
└── ExtensionFailed      an extension that raised, returned the wrong thing or took too long
"""

from __future__ import annotations


class PatchbayError(Exception):
    """An error made for a person: ``message`` says what happened, ``hint`` what to do."""

    status = 500  # the HTTP status that a route answers with

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    @property
    def code(self) -> str:
        """The class name, as the machine-readable name of the error."""
        return type(self).__name__


class SettingError(PatchbayError):
    """A value that a setting cannot take."""

    status = 400

    def __init__(self, field: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.field = field


class PresetError(PatchbayError):
    """A preset file that cannot be read or written."""

    status = 400


class LoaderUnavailable(PatchbayError):
    """An engine that is not installed or does not run on this machine."""

    status = 503


class LoadFailed(PatchbayError):
    """A model that could not be loaded; the message is the engine's reason."""

    status = 503


class NoModelLoaded(PatchbayError):
    """A reply was asked for and no model is chosen."""

    status = 503


class GenerationFailed(PatchbayError):
    """An engine that failed or died while it was writing."""

    status = 500


class PromptTooLong(PatchbayError):
    """A conversation that does not fit the context even without its older messages."""

    status = 400

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(
            f"The prompt has {needed} tokens and the context leaves room for {available}.",
            "Shorten the last message, lower max_tokens, or load the model with a larger context.",
        )
        self.needed = needed
        self.available = available


class TemplateError(PatchbayError):
    """A chat template that does not render."""

    status = 400


class StoreError(PatchbayError):
    """Something that could not be saved or read."""


class NotFound(StoreError):
    """No such chat, message, preset or model."""

    status = 404


class Conflict(StoreError):
    """Somebody else changed it first."""

    status = 409


class BadName(StoreError):
    """A name that no file may have, or a path that leads out of its folder."""

    status = 400


class DiskFull(StoreError):
    """No room left on the disk; what was stored before is whole."""

    status = 507


class Busy(PatchbayError):
    """Too much at once; try again later."""

    status = 503


class ExtensionFailed(PatchbayError):
    """An extension that raised, returned the wrong thing or took too long."""

    def __init__(self, plugin: str, message: str, hint: str = "", traceback: str = "") -> None:
        super().__init__(f"The extension {plugin} failed: {message}", hint)
        self.plugin = plugin
        self.traceback = traceback

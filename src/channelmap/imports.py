"""Dotted path to object: the only place that imports user code. Missing and broken are two faults."""

import importlib
import traceback
from typing import Any

from channelmap.environment import derived
from channelmap.errors import ChannelMapError, did_you_mean, quoted


class ImportProblem(ChannelMapError):
    """What a dotted path names cannot be had; `path` is that dotted path, `hint` the likely remedy."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        self.path = path
        self.message = message
        self.hint = hint
        super().__init__(path, message, hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ModuleMissing(ImportProblem):
    """There is no such module, or the path is no dotted path at all."""


class ModuleBroken(ImportProblem):
    """The module is there but raised when imported; `cause` is the exception, `place` its file:line."""

    def __init__(self, path: str, module: str, cause: BaseException) -> None:
        self.cause = cause
        self.place = _place(cause)
        super().__init__(path, f"importing {quoted(module)} raised {in_words(cause)}")


class AttributeMissing(ImportProblem):
    """The module is there, but nothing in it has that name."""


def in_words(error: BaseException) -> str:
    """Say what the user's code raised, and where in it."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = _place(error)
    return f"{reason} at {place}" if place else reason


def import_dotted(path: str) -> Any:
    """Import the object that a dotted path such as ``media.consumers.Thumbnails`` names.

    Raises:
        ModuleMissing: no such module.
        ModuleBroken: the module raised while it was imported, whatever it raised.
        AttributeMissing: nothing in the module has that name.

    """
    module_name, _, name = path.rpartition(".")
    if ":" in path:
        hint = f"write {quoted(derived(path.replace(':', '.'), path))}"
        raise ModuleMissing(path, f"{quoted(path)} is not a dotted path", hint)
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        message = f"{quoted(path)} is not a dotted path"
        raise ModuleMissing(path, message, "expected module and name, such as 'app.consumers.Consumer'")
    module = _import(path, derived(module_name, path))
    try:
        return getattr(module, name)
    except AttributeError:
        public = [known for known in dir(module) if not known.startswith("_")]
        message = f"{quoted(derived(module_name, path))} has no {quoted(derived(name, path))}"
        raise AttributeMissing(path, message, did_you_mean(name, public)) from None


def _import(path: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        # Missing, not broken, only when it is the module asked for, or a package above it, that is not there.
        missing = derived(error.name or "", path)
        if f"{module_name}.".startswith(f"{missing}."):
            message = f"there is no module {quoted(missing)}"
            raise ModuleMissing(path, message, _module_hint(module_name, missing)) from None
        raise ModuleBroken(path, module_name, error) from None
    except BaseException as error:  # noqa: BLE001  (sys.exit() in a module is a broken module too)
        raise ModuleBroken(path, module_name, error) from None


def _module_hint(module_name: str, missing: str) -> str:
    if "." in missing:
        return ""
    package = derived(module_name.partition(".")[0], module_name)
    return f"is the directory that holds {quoted(package)} on the Python path?"


def _place(error: BaseException) -> str:
    """Return file:line of the user's code that raised: the last frame that is not the import system's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    ours = (__file__, importlib.__file__, "<frozen importlib")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""

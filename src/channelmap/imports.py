"""Dotted path to object: the only place that imports user code. Missing and broken are two faults."""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from channelmap.environment import derived, shown
from channelmap.errors import ChannelMapError, did_you_mean, one_line, quoted, text_of

#: What channelmap and the libraries below it import, perhaps after the project has become importable.
LIBRARIES = frozenset({
    "asgiref", "attr", "attrs", "click", "cryptography", "hiredis", "jsonschema", "jsonschema_rs",
    "jsonschema_specifications", "msgpack", "redis", "referencing", "rich", "rpds", "uvloop", "yaml",
})  # fmt: skip

#: How `manage.py` names the settings: `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "…")`, or by assignment.
_SETTINGS = re.compile(
    rb"""^[^#\n]*["']DJANGO_SETTINGS_MODULE["']\]?\s*[,=]\s*["']([A-Za-z0-9_.]+)["']""", re.MULTILINE
)
#: Bytes of a `manage.py` that are looked at.
_MOST_READ = 100_000


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
        super().__init__(path, f"importing {quoted(module)} raised {in_words(cause)}", _hint_for(cause))


class AttributeMissing(ImportProblem):
    """The module is there, but nothing in it has that name."""


def in_words(error: BaseException) -> str:
    """Say in one line what the user's code raised, and where in it."""
    settings_missing = _lacks_django_settings(error)
    reason = (
        f"{type(error).__name__}: Django's settings are not configured"
        if settings_missing
        else one_line(text_of(error))
    )
    place = _place(error)
    return f"{reason} at {place}" if place else reason


class DjangoUnusable(ChannelMapError):
    """The Django project that DJANGO_SETTINGS_MODULE names cannot be set up; `settings` is that name."""

    def __init__(self, settings: str, cause: BaseException) -> None:
        self.settings = settings
        super().__init__(
            f"DJANGO_SETTINGS_MODULE is {quoted(settings)}, and setting Django up raised {in_words(cause)}"
        )


def prepare_imports(contract: str) -> None:
    """Make consumers importable from the working directory and from the contract's, and set Django up if it is used.

    Raises:
        DjangoUnusable: settings or applications raised.

    """
    make_importable(Path.cwd(), Path(contract).absolute().parent)
    settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    if settings:
        _set_django_up(settings)


def _set_django_up(settings: str) -> None:
    try:
        import django

        django.setup()
    except (Exception, SystemExit) as error:
        # Settings and applications are the user's code, and may raise whatever they like.
        raise DjangoUnusable(settings, error) from error


def make_importable(*directories: Path) -> None:
    """Put directories on the path of imports, the first one first: behind Python's own modules, before installed ones.

    The libraries of channelmap are looked for elsewhere first. A directory that stands before Python's own modules
    stays there: somebody else put it there.
    """
    if _LIBRARY_FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _LIBRARY_FINDER)
    _LIBRARY_FINDER.projects.update(map(str, directories))
    own = {os.path.dirname(os.__file__), os.path.join(os.path.dirname(os.__file__), "lib-dynload")}  # noqa: PTH118, PTH120
    behind = max((index for index, entry in enumerate(sys.path) if entry in own), default=-1) + 1
    for directory in reversed([str(directory) for directory in directories]):
        if directory not in sys.path[:behind]:
            others = [entry for entry in sys.path[behind:] if entry != directory]
            sys.path[behind:] = [directory, *others]


class _LibraryFinder:
    """Finds a library of channelmap's where it is installed, before a module of the same name in a project."""

    def __init__(self) -> None:
        #: Directories of projects.
        self.projects: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where a library is installed; None for anything else."""
        if path is not None or name not in LIBRARIES:
            return None
        return PathFinder.find_spec(name, [entry for entry in sys.path if entry not in self.projects], target)


_LIBRARY_FINDER = _LibraryFinder()


def hidden_by(name: str) -> str:
    """Say which file cannot be imported because another module has its name; empty when there is none.

    Args:
        name: the dotted name of a module; the clash is about its first part.

    """
    is_public = shown(name) == name
    name = name.partition(".")[0]
    module = sys.modules.get(name)
    if module is None or not is_public:
        return ""
    file = getattr(module, "__file__", None) or ""
    for entry in sys.path:
        spec = PathFinder.find_spec(name, [entry])
        if spec is not None and spec.origin and not (file and _is_same(spec.origin, file)):
            whose = f"the module in {quoted(file, 200)}" if file else "a module of Python"
            return f"{quoted(spec.origin, 200)} is hidden by {whose}, which has the same name: rename it"
    return ""


def _is_same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


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
        raise AttributeMissing(path, message, hidden_by(module_name) or did_you_mean(name, public)) from None


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
            hint = hidden_by(module_name) or _module_hint(module_name, missing)
            raise ModuleMissing(path, message, hint) from None
        raise ModuleBroken(path, module_name, error) from None
    except BaseException as error:  # noqa: BLE001  (sys.exit() in a module is a broken module too)
        raise ModuleBroken(path, module_name, error) from None


def _hint_for(cause: BaseException) -> str:
    """Return the likely remedy for what a module raised: settings of Django, or another name for a hidden file."""
    if _lacks_django_settings(cause):
        return _django_hint()
    if isinstance(cause, ImportError):
        return hidden_by(cause.name or "")
    if isinstance(cause, AttributeError) and isinstance(cause.obj, ModuleType):
        return hidden_by(cause.obj.__name__)
    return ""


def _lacks_django_settings(error: BaseException) -> bool:
    """Return whether Django asked for settings, and nothing says which."""
    # By its name: Django may not be installed.
    return (
        type(error).__name__ == "ImproperlyConfigured"
        and "DJANGO_SETTINGS_MODULE" in str(error)
        and not os.environ.get("DJANGO_SETTINGS_MODULE")
    )


def _django_hint() -> str:
    """Name the settings that the nearest `manage.py` names, in the working directory or above it."""
    here = Path.cwd()
    for directory in (here, *here.parents):
        try:
            with (directory / "manage.py").open("rb") as file:
                settings = _SETTINGS.search(file.read(_MOST_READ))
        except OSError:
            continue
        if settings is not None:
            hint = f"set DJANGO_SETTINGS_MODULE to {quoted(settings[1].decode())}, as"
            if directory == here:
                return f"{hint} 'manage.py' does"
            return f"{hint} {quoted(directory / 'manage.py', 200)} does, and PYTHONPATH to its directory"
    return "set DJANGO_SETTINGS_MODULE to the dotted path of the settings, such as 'mysite.settings'"


def _module_hint(module_name: str, missing: str) -> str:
    if "." in missing:
        return ""
    package = derived(module_name.partition(".")[0], module_name)
    return f"is the directory that holds {quoted(package)} on the Python path?"


def _place(error: BaseException) -> str:
    """Return file:line of the user's code that raised: the last frame that is not the import system's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    ours: tuple[str, ...] = (__file__, importlib.__file__, "<frozen importlib")
    django = sys.modules.get("django")
    if _lacks_django_settings(error) and django is not None:
        # The project's line that needs the settings, not Django's line that looks for them.
        ours += (f"{Path(django.__file__ or '').parent}{os.sep}",)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""

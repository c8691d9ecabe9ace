"""Import of objects by dotted path. This is the only module that imports user code."""

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

#: Libraries that channelmap and its dependencies import, possibly after the project became importable.
LIBRARIES = frozenset({
    "anyio", "asgiref", "attr", "attrs", "click", "cryptography", "h11", "hiredis", "hypothesis", "idna",
    "importlib_metadata", "jsonschema", "jsonschema_rs", "jsonschema_specifications", "msgpack", "opentelemetry",
    "prometheus_client", "redis", "referencing", "rich", "rpds", "sortedcontainers", "starlette",
    "typing_extensions", "uvicorn", "uvloop", "yaml", "zipp",
})  # fmt: skip

#: How `manage.py` names the settings: `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "…")`, or by assignment.
_SETTINGS = re.compile(
    rb"""^[^#\n]*["']DJANGO_SETTINGS_MODULE["']\]?\s*[,=]\s*["']([A-Za-z0-9_.]+)["']""", re.MULTILINE
)
#: Maximum number of bytes read from a `manage.py`.
_MAX_MANAGE_BYTES = 100_000


class ImportProblem(ChannelMapError):
    """A dotted path cannot be imported; `path` is the dotted path, `hint` the likely remedy."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        self.path = path
        self.message = message
        self.hint = hint
        super().__init__(path, message, hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ModuleMissing(ImportProblem):
    """The module does not exist, or the path is not a dotted path."""


class ModuleBroken(ImportProblem):
    """The module raised while it was imported; `cause` is the exception, `location` its file:line."""

    def __init__(self, path: str, module: str, cause: BaseException) -> None:
        self.cause = cause
        self.location = _location_of(cause)
        super().__init__(path, f"importing {quoted(module)} raised {describe_exception(cause)}", _hint_for(cause))


class AttributeMissing(ImportProblem):
    """The module has no attribute of that name."""


def describe_exception(error: BaseException) -> str:
    """Describe an exception of user code in one line, with its location."""
    settings_missing = _is_missing_django_settings(error)
    reason = (
        f"{type(error).__name__}: Django's settings are not configured"
        if settings_missing
        else one_line(text_of(error))
    )
    location = _location_of(error)
    return f"{reason} at {location}" if location else reason


class DjangoUnusable(ChannelMapError):
    """The Django project that DJANGO_SETTINGS_MODULE names cannot be set up; `settings` is that name."""

    def __init__(self, settings: str, cause: BaseException) -> None:
        self.settings = settings
        reason = describe_exception(cause)
        super().__init__(f"DJANGO_SETTINGS_MODULE is {quoted(settings)}, and setting Django up raised {reason}")


def prepare_imports(contract: str) -> None:
    """Make consumers importable from the working directory and from the contract's, and set Django up if it is used.

    Raises:
        DjangoUnusable: settings or applications raised.

    """
    make_importable(Path.cwd(), Path(contract).absolute().parent)
    settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    if settings:
        _set_up_django(settings)


def uses_django() -> bool:
    """Return whether this process has set Django up."""
    registry = sys.modules.get("django.apps")
    return registry is not None and registry.apps.ready


def _set_up_django(settings: str) -> None:
    try:
        import django

        django.setup()
    except (Exception, SystemExit) as error:
        # Settings and applications are user code, which may raise anything.
        raise DjangoUnusable(settings, error) from error


def make_importable(*directories: Path) -> None:
    """Add directories to `sys.path`, in this order, after the standard library and before installed packages.

    Channelmap's own libraries are imported from elsewhere first. A directory that is already listed before the
    standard library stays where it is.
    """
    if _LIBRARY_FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _LIBRARY_FINDER)
    _LIBRARY_FINDER.projects.update(map(str, directories))
    stdlib = {os.path.dirname(os.__file__), os.path.join(os.path.dirname(os.__file__), "lib-dynload")}  # noqa: PTH118, PTH120
    index = max((index for index, entry in enumerate(sys.path) if entry in stdlib), default=-1) + 1
    for directory in reversed([str(directory) for directory in directories]):
        if directory not in sys.path[:index]:
            others = [entry for entry in sys.path[index:] if entry != directory]
            sys.path[index:] = [directory, *others]


class _LibraryFinder:
    """Import channelmap's libraries from where they are installed, not from a project's module of the same name."""

    def __init__(self) -> None:
        #: Directories of projects.
        self.projects: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of an installed library; None for other modules."""
        if path is not None or name not in LIBRARIES:
            return None
        return PathFinder.find_spec(name, [entry for entry in sys.path if entry not in self.projects], target)


_LIBRARY_FINDER = _LibraryFinder()


def shadowing_hint(name: str) -> str:
    """Return a hint that names the file which cannot be imported because another module has its name; empty if none.

    Args:
        name: the dotted name of a module; only its first part matters.

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
        ModuleMissing: the module does not exist.
        ModuleBroken: the module raised any exception while it was imported.
        AttributeMissing: the module has no attribute of that name.

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
        raise AttributeMissing(path, message, shadowing_hint(module_name) or did_you_mean(name, public)) from None


def _import(path: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        # The module is missing only if itself or one of its packages does not exist; otherwise it is broken.
        missing = derived(error.name or "", path)
        if f"{module_name}.".startswith(f"{missing}."):
            message = f"there is no module {quoted(missing)}"
            hint = shadowing_hint(module_name) or _module_hint(module_name, missing)
            raise ModuleMissing(path, message, hint) from None
        raise ModuleBroken(path, module_name, error) from None
    except BaseException as error:  # noqa: BLE001  (sys.exit() in a module is a broken module too)
        raise ModuleBroken(path, module_name, error) from None


def _hint_for(cause: BaseException) -> str:
    """Return the likely remedy for an exception: settings of Django, or another name for a hidden file."""
    if _is_missing_django_settings(cause):
        return _django_hint()
    if isinstance(cause, ImportError):
        return shadowing_hint(cause.name or "")
    if isinstance(cause, AttributeError) and isinstance(cause.obj, ModuleType):
        return shadowing_hint(cause.obj.__name__)
    return ""


def _is_missing_django_settings(error: BaseException) -> bool:
    """Return whether Django lacks settings and DJANGO_SETTINGS_MODULE is not set."""
    # Compared by name, because Django may not be installed.
    return (
        type(error).__name__ == "ImproperlyConfigured"
        and "DJANGO_SETTINGS_MODULE" in str(error)
        and not os.environ.get("DJANGO_SETTINGS_MODULE")
    )


def _django_hint() -> str:
    """Return a hint with the settings that the nearest `manage.py` names, in the working directory or above it."""
    here = Path.cwd()
    for directory in (here, *here.parents):
        try:
            with (directory / "manage.py").open("rb") as file:
                settings = _SETTINGS.search(file.read(_MAX_MANAGE_BYTES))
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


def _location_of(error: BaseException) -> str:
    """Return file:line of the user code that raised: the last frame outside the import system."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    ignored: tuple[str, ...] = (__file__, importlib.__file__, "<frozen importlib")
    django = sys.modules.get("django")
    if _is_missing_django_settings(error) and django is not None:
        # Show the line of the project that needs the settings, not a line of Django.
        ignored += (f"{Path(django.__file__ or '').parent}{os.sep}",)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ignored)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""

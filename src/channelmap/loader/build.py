"""Build the model from a contract file whose shape, schemas and examples are valid."""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from channelmap.contract import Channel, Contract, EventType, Example, LayerSetting, Suppression
from channelmap.diagnostics import Location
from channelmap.environment import derived
from channelmap.limits import Limits, RetryPolicy, Service, letters_kept
from channelmap.loader.files import Files
from channelmap.loader.schemas import Schemas
from channelmap.pointers import Pointer
from channelmap.source import Document

DEFAULT_LAYER = "sqlite:///channels.db"

Examples = dict[Pointer, tuple[Example, ...]]


def build(document: Document, schemas: Schemas, examples: Examples, files: Files) -> Contract:
    """Return the contract.

    Args:
        document: the contract file.
        schemas: its compiled schemas.
        examples: its examples, by the pointer to their list.
        files: the directory of the contract file, and the other files that were read.

    """
    data = document.marked_data
    defaults = data.get("defaults", {})
    channels = {
        name: _channel(name, {**defaults, **settings, "retry": _retry(defaults, settings)}, schemas, examples)
        for name, settings in data["channels"].items()
    }
    from_environment = any(pointer[0] == "layer" for pointer in document.variables)
    layer = _layer(data.get("layer"), files.root, from_environment=from_environment)
    check = data.get("check", {})
    return Contract(
        path=document.path,
        layer=layer,
        channels=channels,
        document=document,
        root=files.root,
        files=files.paths,
        suppressions=tuple(
            _suppression(entry, document.locate(("check", "ignore", index)))
            for index, entry in enumerate(check.get("ignore", ()))
        ),
        warn=frozenset(check.get("warn", ())),
        tracing=data.get("tracing", False),
    )


def _suppression(entry: dict[str, str], location: Location) -> Suppression:
    return Suppression(
        code=entry["code"],
        reason=entry["reason"],
        channel=entry.get("channel", ""),
        event_type=entry.get("event", ""),
        until=date.fromisoformat(entry["until"]) if "until" in entry else None,
        location=location,
    )


def _channel(name: str, settings: dict[str, Any], schemas: Schemas, examples: Examples) -> Channel:
    return Channel(
        name=name,
        consumer=settings["consumer"],
        events={
            event_type: _event_type(("channels", name, "events", event_type), declared, schemas, examples)
            for event_type, declared in settings["events"].items()
        },
        description=settings.get("description", ""),
        owner=settings.get("owner", ""),
        validate=settings.get("validate", "enforce"),
        limits=_limits(settings),
        service=_service(settings),
    )


def _event_type(pointer: Pointer, declared: Any, schemas: Schemas, examples: Examples) -> EventType:
    return EventType(
        name=str(pointer[-1]),
        schema=schemas.schema(pointer),
        written=schemas.written(pointer),
        validator=schemas.validator(pointer),
        description=declared.get("description", "") if isinstance(declared, dict) else "",
        accepts=examples.get((*pointer, "accepts"), ()),
        rejects=examples.get((*pointer, "rejects"), ()),
        task=declared.get("task", "") if isinstance(declared, dict) else "",
    )


def _limits(settings: dict[str, Any]) -> Limits:
    chosen = _converted(settings, {"capacity": int, "expiry": _seconds, "dead_letters": int})
    capacity = chosen.get("capacity", Limits().capacity)
    # At-least-once promises that no event is lost, so it is durable by default.
    usual = "full" if settings.get("delivery") == "at-least-once" else "normal"
    durable = settings.get("durability", usual) == "full"
    return Limits(**{"dead_letters": letters_kept(capacity)} | chosen, durable=durable)


def _service(settings: dict[str, Any]) -> Service:
    retry = RetryPolicy(**settings["retry"]) if settings.get("delivery") == "at-least-once" else None
    kinds: dict[str, Callable[[Any], Any]] = {"concurrency": int, "timeout": _seconds, "warn_after": _seconds}
    return Service(**_converted(settings, kinds), retry=retry)


def _converted(settings: dict[str, Any], kinds: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Return the settings that are present, converted: a missing one keeps the default, and an integer may be 2.0."""
    return {key: kind(settings[key]) for key, kind in kinds.items() if key in settings}


def _retry(*levels: dict[str, Any]) -> dict[str, Any]:
    """Merge the `retry` settings of several levels by key; a later level takes precedence."""
    kinds = {"attempts": int, "delay": float, "backoff": float, "max_delay": float, "jitter": float}
    return {key: value for level in levels for key, value in _converted(level.get("retry", {}), kinds).items()}


def _seconds(value: float | None) -> float | None:
    return None if value is None else float(value)


def _layer(setting: Any, root: Path, *, from_environment: bool) -> LayerSetting:
    is_default = setting is None
    if is_default:
        setting = DEFAULT_LAYER
    if isinstance(setting, str):
        setting = {"url": setting}
    return LayerSetting(
        url=_absolute_url(setting.get("url", ""), root),
        options=_options(setting.get("options", {})),
        backend=setting.get("backend", ""),
        config=setting.get("config", {}),
        from_environment=from_environment,
        is_default=is_default,
    )


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return options | _converted(options, {"capacity": int, "dead_letters": int, "random_prefix_length": int})


def _absolute_url(url: str, root: Path) -> str:
    """Make a relative SQLite path absolute, from the contract's directory: processes may start in any directory."""
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path or path.startswith("/"):
        return url
    return derived(f"sqlite:///{root / path}", url)

"""The names of a channel's keys, made from its queue's key; `scripts` lists what each holds."""


def keys_of(key: str) -> list[str]:
    """Return the keys that `TAKE` needs."""
    return [key, *record_of(key), scheduled_of(key), paused_of(key), f"{key}$leases", f"{key}$leased"]


def popped_keys(key: str) -> list[str]:
    """Return the keys that `MOVE_DUE` needs."""
    return [key, scheduled_of(key), paused_of(key), record_of(key)[0]]


def watched_keys(key: str) -> list[str]:
    """Return the keys of which at least one changes when the next event can be taken, or can be taken earlier."""
    return [key, f"{key}$until", scheduled_of(key), paused_of(key), f"{key}$leases"]


def counted_keys(key: str) -> list[str]:
    """Return the keys that `COUNT` needs."""
    return [
        key, scheduled_of(key), *record_of(key), f"{key}$leases", *letters_of(key), paused_of(key), totals_of(key),
    ]  # fmt: skip


def record_of(key: str) -> list[str]:
    """Return the two keys of a channel's record of leases."""
    return [f"{key}$until", f"{key}$batches"]


def letters_of(key: str) -> list[str]:
    """Return the keys of a channel's dead letters, and of their numbers by code."""
    return [f"{key}$dead", f"{key}$codes"]


def totals_of(key: str) -> str:
    """Return the key of a channel's totals."""
    return f"{key}$totals"


def paused_of(key: str) -> str:
    """Return the key that exists while a channel is paused."""
    return f"{key}$paused"


def scheduled_of(key: str) -> str:
    """Return the key of a channel's scheduled events."""
    return f"{key}$scheduled"

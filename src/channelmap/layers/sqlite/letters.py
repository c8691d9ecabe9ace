"""Operations on dead letters, as plain functions of a connection (see `queue`)."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from channelmap.layer import DeadLetter, Delivery, shown_id
from channelmap.layers.batches import Batch, parts_of
from channelmap.layers.ids import new_id
from channelmap.layers.packing import unpack
from channelmap.layers.sqlite.clock import Database
from channelmap.layers.sqlite.leases import end, is_leased
from channelmap.layers.sqlite.queue import append, transaction
from channelmap.limits import Limits

_COUNT = "SELECT sum(letters) FROM dead_letter_counts WHERE channel = ?"
_DROP_OLDEST = """
DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE channel = ? ORDER BY id LIMIT ?)
"""
_COLUMNS = "channel, code, reason, violations, traceback, attempts, sent, died, body, event_id"


def keep(
    db: Database,
    buried: Sequence[tuple[Delivery, DeadLetter]],
    limits_of: Callable[[str], Limits],
) -> dict[str, int]:
    """Store letters, drop the oldest beyond the limit, and end the leases of their events.

    Returns:
        The number of dropped letters, by channel.

    """
    dropped: dict[str, int] = {}
    with transaction(db):
        # An event whose lease has ended belongs to another worker.
        kept = [
            letter
            for delivery, letter in buried
            if not isinstance(delivery.ticket, Batch) or is_leased(db, delivery.ticket, delivery.number)
        ]
        end(db, parts_of(delivery for delivery, _ in buried))
        db.executemany(
            f"INSERT INTO dead_letters ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            [_row(letter) for letter in kept],
        )
        for channel in {letter.channel for letter in kept}:
            too_many = db.execute(_COUNT, (channel,)).fetchone()[0] - limits_of(channel).dead_letters
            if too_many > 0:
                dropped[channel] = db.execute(_DROP_OLDEST, (channel, too_many)).rowcount
    return dropped


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        letter.channel,
        letter.code,
        _without_surrogates(letter.reason),
        json.dumps(letter.violations),
        _without_surrogates(letter.traceback),
        letter.attempts,
        letter.sent,
        letter.died,
        letter.body,
        int(letter.event_id or "0", 16),
    )


def _without_surrogates(text: str) -> str:
    # A traceback may contain a lone surrogate, which SQLite rejects.
    return text.encode("utf-8", "backslashreplace").decode()


def read_all(db: Database, channel: str | None) -> list[DeadLetter]:
    """List the letters of one channel, or of all, oldest first."""
    where, values = ("", ()) if channel is None else ("WHERE channel = ?", (channel,))
    rows = db.execute(f"SELECT id, {_COLUMNS} FROM dead_letters {where} ORDER BY id", values)  # noqa: S608
    return [_letter(*row) for row in rows]


def _letter(*row: Any) -> DeadLetter:
    id_, channel, code, reason, violations, traceback, attempts, sent, died, body, event_id = row
    return DeadLetter(
        channel=channel,
        code=code,
        reason=reason,
        event=unpack(body)[0],
        body=body,
        violations=tuple(json.loads(violations)),
        traceback=traceback,
        attempts=attempts,
        sent=sent,
        died=died,
        id=str(id_),
        event_id=shown_id(event_id or 0),
    )


def replay(
    db: Database,
    id: str,  # noqa: A002
    limits_of: Callable[[str], Limits],
) -> tuple[str, bool]:
    """Move a letter's event to the end of its channel; return the channel, and False if it is full.

    Raises:
        KeyError: the id does not exist.

    """
    with transaction(db):
        found = db.execute("SELECT channel, body, event_id FROM dead_letters WHERE id = ?", (id,)).fetchone()
        if found is None:
            raise KeyError(id)
        channel, body, event_id = found
        fits = append(db, channel, event_id or new_id(), body, limits_of(channel))
        if fits:
            drop(db, id)
    return channel, fits


def drop(db: Database, id: str) -> None:  # noqa: A002
    """Delete a letter; raise KeyError if the id does not exist."""
    if not db.execute("DELETE FROM dead_letters WHERE id = ?", (id,)).rowcount:
        raise KeyError(id)

"""Puts into words what can go wrong between us and a server."""

import ssl

import hiredis

from channelmap.errors import LayerUnavailable, quoted
from channelmap.layers.redis.places import Address, Place
from channelmap.layers.redis.tls import handshake_failed

#: Why nothing works any more when we ourselves have ended it.
CLOSED = "the layer was closed"

#: What a server's refusal begins with, and what it means to the user. What it says besides may hold names of
#: keys and users: only its first word is told on.
_REFUSALS = {
    "WRONGPASS": "the server refused user name and password; check them in the URL",
    "NOAUTH": "the server asks for a password; put it into the URL: redis://:PASSWORD@host",
    "NOPERM": "the user may not do this; allow it all commands on all keys with the layer's prefix (ACL SETUSER)",
    "OOM": "the server is out of memory (maxmemory); nothing was written",
    "READONLY": "the server is a read-only replica; name the primary, or use redis+sentinel://",
    "WRONGTYPE": "a key of the layer holds something else; delete it, or give the layer a prefix of its own",
    "LOADING": "the server is still loading its data",
    "BUSY": "the server is busy with a script",
    "MISCONF": "the server cannot save its data to disk and takes no writes; see its log",
    "NOREPLICAS": "the server has too few replicas to take writes (min-replicas-to-write)",
    "MASTERDOWN": "the server has lost its primary",
    "CLUSTERDOWN": "the Cluster is down: a part of its slots has no node",
    "MOVED": "the server is part of a Cluster; use redis+cluster://",
    "ASK": "the Cluster is just moving the key to another node",
    "TRYAGAIN": "the Cluster is just moving the keys to another node",
    "UNBLOCKED": "the server has become a replica",
    "NOPROTO": "the server is too old; Redis 7 or later, or Valkey, is needed",
}
_UNKNOWN_COMMAND = "the server does not know a command; Redis 7 or later, or Valkey, is needed"

#: Refusals after which a place that moves is looked up again: nothing was done.
_ASK_AGAIN = ("MOVED", "ASK", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED")


class Lost(Exception):
    """The connection ended, or is taken for dead; what was under way may have been done or not."""


class Silent(Lost):
    """The server did not answer in time."""


class Unreached(Exception):
    """There is no connection to be had, for the reason in `__cause__`; nothing was sent."""


def worth_another_try(place: Place, error: BaseException) -> bool:
    """Note that a server failed; whether nothing was done there, and another one may have the key by now."""
    refused = isinstance(error, hiredis.ReplyError)
    elsewhere = refused and str(error).startswith(_ASK_AGAIN)
    if refused and str(error).startswith("MOVED "):
        _, slot, node = str(error).split(" ")
        place.moved(int(slot), *_host_and_port(node))
    # Until a slot has moved as a whole, it is where it was.
    elif (elsewhere or not refused) and not str(error).startswith("ASK "):
        place.forget()
    return place.moves and (elsewhere or isinstance(error, Unreached))


def asked_instead(place: Place, key: str, error: BaseException) -> Address | None:
    """Return the node that is to be asked this once, ASKING first, where a Cluster is just moving the key to it."""
    if not (isinstance(error, hiredis.ReplyError) and str(error).startswith("ASK ")):
        return None
    host, port = _host_and_port(str(error).rpartition(" ")[2])
    known = place.known(key)
    # A node without a name is where the one is that names it.
    return Address(host or (known.host if known else ""), port)


def _host_and_port(node: str) -> tuple[str, int]:
    host, _, port = node.rpartition(":")
    return host, int(port)


def discreet(error: hiredis.ReplyError) -> hiredis.ReplyError:
    """Leave out of a refusal what it repeats of the command: in a greeting that is the password."""
    return hiredis.ReplyError(str(error).partition(", with args")[0])


def fit_to_show(error: BaseException) -> BaseException | None:
    """Return the error where it may stand in a traceback: a refusal may quote keys, users and values."""
    return None if isinstance(error, hiredis.ReplyError) else error


def of_one_key(error: BaseException) -> bool:
    """Whether a server refused for one key what it may well do for another."""
    return isinstance(error, hiredis.ReplyError) and str(error).startswith(("WRONGTYPE", "NOPERM"))


def unavailable(place: Place, error: BaseException, key: str = "") -> LayerUnavailable:
    """Say what an error means to the user; `key` for which key it was, if for one."""
    reason = _reason(place, error)
    return LayerUnavailable(place.url, f"{reason} (key {quoted(key, 200)})" if key and of_one_key(error) else reason)


def _reason(place: Place, error: BaseException) -> str:
    if isinstance(error, Unreached) or isinstance(error.__cause__, ssl.SSLError):
        error = error.__cause__ or error
    if isinstance(error, hiredis.ReplyError):
        return _refusal(str(error))
    if isinstance(error, TimeoutError):
        return "the server cannot be reached: no answer"
    if isinstance(error, ssl.SSLError):
        return handshake_failed(error, place.options)
    if isinstance(error, FileNotFoundError):
        return "there is no such socket; is the server running?"
    if isinstance(error, ConnectionRefusedError) or (isinstance(error, OSError) and "refused" in str(error)):
        return "the connection was refused; is the server running?"
    return str(error) or type(error).__name__


def _refusal(text: str) -> str:
    word = text.partition(" ")[0]
    if word in _REFUSALS:
        return _REFUSALS[word]
    if "unknown command" in text:
        return _UNKNOWN_COMMAND
    if "without any password configured" in text:
        return "the server has no password, but the URL gives one"
    return f"the server refused ({word}: {text.partition(' ')[2][:80]})"

"""Say in words why a server cannot be used, and whether another attempt may help."""

import ssl

import hiredis

from channelmap.errors import LayerUnavailable, quoted
from channelmap.layers.redis.client.tls import handshake_failed
from channelmap.layers.redis.client.topology import Address, Topology

#: The reason in errors after this process has closed its connections.
CLOSED = "the layer was closed"

#: The first word of a server's error, and what it means to the user. The rest of the error may hold names of keys and
#: users, so it is not repeated.
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

#: Errors after which another server may have the key; the command was not executed.
_MOVED = ("MOVED", "ASK", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED")


class Lost(Exception):
    """The connection ended, or counts as lost; pending commands may have been executed or not."""


class Silent(Lost):
    """The server did not answer in time."""


class Unreached(Exception):
    """No connection can be opened, for the reason in `__cause__`; nothing was sent."""


def note_failure(topology: Topology, error: BaseException) -> bool:
    """Record that a server failed.

    Returns:
        Whether to try once more: the command was not executed, and another server may have the key now.

    """
    refused = isinstance(error, hiredis.ReplyError)
    elsewhere = refused and str(error).startswith(_MOVED)
    if refused and str(error).startswith("MOVED "):
        _, slot, node = str(error).split(" ")
        topology.moved(int(slot), *_host_and_port(node))
    # While a slot moves (ASK), its node is still the owner.
    elif (elsewhere or not refused) and not str(error).startswith("ASK "):
        topology.forget()
    return topology.can_move and (elsewhere or isinstance(error, Unreached))


def redirection(topology: Topology, key: str, error: BaseException) -> Address | None:
    """Return the node to which a Cluster is moving the key, for one attempt with ASKING; `None` for other errors."""
    if not (isinstance(error, hiredis.ReplyError) and str(error).startswith("ASK ")):
        return None
    host, port = _host_and_port(str(error).rpartition(" ")[2])
    known = topology.known(key)
    # An empty host stands for the host of the node that answered.
    return Address(host or (known.host if known else ""), port)


def _host_and_port(node: str) -> tuple[str, int]:
    host, _, port = node.rpartition(":")
    return host, int(port)


def without_arguments(error: hiredis.ReplyError) -> hiredis.ReplyError:
    """Return the error without the arguments that it repeats: at login, they include the password."""
    return hiredis.ReplyError(str(error).partition(", with args")[0])


def shown_cause(error: BaseException) -> BaseException | None:
    """Return the error if a traceback may show it; a server's error may quote keys, users and values."""
    return None if isinstance(error, hiredis.ReplyError) else error


def is_about_one_key(error: BaseException) -> bool:
    """Return whether the server refused this key only, and may accept others."""
    return isinstance(error, hiredis.ReplyError) and str(error).startswith(("WRONGTYPE", "NOPERM"))


def unavailable(topology: Topology, error: BaseException, key: str = "") -> LayerUnavailable:
    """Return the error to raise.

    Args:
        topology: its name is part of the message.
        error: the problem.
        key: the key of the command, if it had one.

    """
    reason = _reason(topology, error)
    return LayerUnavailable(
        topology.url, f"{reason} (key {quoted(key, 200)})" if key and is_about_one_key(error) else reason
    )


def _reason(topology: Topology, error: BaseException) -> str:
    if isinstance(error, Unreached) or isinstance(error.__cause__, ssl.SSLError):
        error = error.__cause__ or error
    if isinstance(error, hiredis.ReplyError):
        return _refusal(str(error))
    if isinstance(error, TimeoutError):
        return "the server cannot be reached: no answer"
    if isinstance(error, ssl.SSLError):
        return handshake_failed(error, topology.options)
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

"""Where keys are: on one server, on the master of a Sentinel service, or on the nodes of a Cluster.

Look-ups are rare, and they block; code in an event loop runs them in a thread.
"""

import ssl
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from channelmap.layers.redis.client.tls import make_context

#: Sends one command to a server and returns the reply; raises OSError, Lost or hiredis.ReplyError.
Ask = Callable[["Topology", "Address", Sequence[Any]], Any]

#: Default time limits in seconds: to open a connection, and to answer a command.
CONNECT_SECS, ANSWER_SECS = 3.0, 5.0

#: How many hash tags the names with one prefix share in a Cluster. A blocking command names keys of one tag only, so a
#: client blocks on at most this many connections; they suffice to spread names over a dozen nodes.
TAGS = 64


class Address(NamedTuple):
    """The address of a server: host and port, or the path of a Unix socket."""

    host: str
    port: int = 6379
    path: str = ""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


class Topology(ABC):
    """One entry of `hosts`, and which server has which of its keys at present.

    Args:
        url: its name in messages, without user name and password.
        options: arguments of redis-py's connections.

    """

    #: Whether a key may move to another server.
    can_move = True

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.options = options
        self._tls: ssl.SSLContext | None = None

    def key(self, prefix: str, name: str) -> str:
        """Return the key for a name; in a Cluster, it has one of `TAGS` hash tags."""
        return prefix + name

    def key_prefix(self, prefix: str) -> str:
        """Return the text with which all keys that `key` makes begin."""
        return prefix

    def hash_tag(self, key: str) -> str:  # noqa: ARG002
        """Return the hash tag of a key with its braces: one command may name several keys with the same tag."""
        return ""

    @abstractmethod
    def known(self, key: str) -> Address | None:
        """Return the last known address of the server that has the key."""

    @abstractmethod
    def find(self, key: str, ask: Ask) -> Address:
        """Look up which server has the key; blocks, and raises as `ask`."""

    @abstractmethod
    def forget(self) -> None:
        """Forget the known addresses: a server was lost, or refused."""

    def has_left(self, address: Address) -> bool:  # noqa: ARG002
        """Return whether the addresses are known, and this one is not among them."""
        return False

    def moved(self, slot: int, host: str, port: int) -> None:  # noqa: ARG002
        """Record the new owner of a slot of a Cluster, which the old owner named."""
        self.forget()

    @abstractmethod
    def nodes(self, ask: Ask) -> list[Address]:
        """Look up all servers that have keys; blocks, and raises as `ask`."""

    @property
    def timeouts(self) -> tuple[float, float]:
        """Return the time limits in seconds to open a connection and to answer a command, from redis-py's options."""
        connect, answer = (self.options.get(name) for name in ("socket_connect_timeout", "socket_timeout"))
        return float(connect or CONNECT_SECS), float(answer or ANSWER_SECS)

    def handshake(self) -> list[tuple[Any, ...]]:
        """Return the commands with which a connection begins."""
        user, password = self.options.get("username"), self.options.get("password")
        if provider := self.options.get("credential_provider"):
            *users, password = provider.get_credentials()
            user = users[0] if users else None
        hello: tuple[Any, ...] = ("HELLO", "3")
        if password:
            hello += ("AUTH", user or "default", password)
        database = int(self.options.get("db") or 0)
        return [hello, ("SELECT", database)] if database else [hello]

    @property
    def uses_tls(self) -> bool:
        """Return whether connections use TLS: by a ``rediss://`` URL, or by redis-py's own options."""
        return bool(self.options.get("ssl") or "SSL" in getattr(self.options.get("connection_class"), "__name__", ""))

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context that redis-py's options describe; `None` for an unencrypted connection.

        Raises:
            TLSUnusable: an option, or a file that an option names, cannot be used.

        """
        if self._tls is None and self.uses_tls:
            self._tls = make_context(self.options)
        return self._tls


class SingleServer(Topology):
    """One server with a fixed address."""

    can_move = False

    def __init__(self, url: str, options: dict[str, Any], address: Address) -> None:
        super().__init__(url, options)
        self._address = address

    def known(self, key: str) -> Address:  # noqa: ARG002, D102
        return self._address

    def find(self, key: str, ask: Ask) -> Address:  # noqa: ARG002, D102
        return self._address

    def forget(self) -> None:  # noqa: D102
        pass

    def nodes(self, ask: Ask) -> list[Address]:  # noqa: ARG002, D102
        return [self._address]


class SentinelService(Topology):
    """The master of a Sentinel service.

    Args:
        url: its name in messages.
        options: as in `Topology`, for the master.
        service: the service's name.
        sentinels: the Sentinels to ask for the master's address.

    """

    def __init__(self, url: str, options: dict[str, Any], service: str, sentinels: Sequence[SingleServer]) -> None:
        super().__init__(url, options)
        self._service = service
        self._sentinels = list(sentinels)
        self._master: Address | None = None

    def known(self, key: str) -> Address | None:  # noqa: ARG002, D102
        return self._master

    def find(self, key: str, ask: Ask) -> Address:  # noqa: D102
        problem: Exception = ConnectionError("no sentinel knows this service")
        for sentinel in list(self._sentinels):
            try:
                found = ask(sentinel, sentinel.known(key), ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service))
            except Exception as error:  # noqa: BLE001  (the next one may answer)
                problem = error
                continue
            if found:
                self._master = Address(_text(found[0]), int(found[1]))
                # The Sentinel that answered is asked first next time.
                self._sentinels = [sentinel, *(one for one in self._sentinels if one is not sentinel)]
                return self._master
        raise problem

    def forget(self) -> None:  # noqa: D102
        self._master = None

    def has_left(self, address: Address) -> bool:  # noqa: D102
        return self._master not in {None, address}

    def nodes(self, ask: Ask) -> list[Address]:  # noqa: D102
        return [self.known("") or self.find("", ask)]


class Cluster(Topology):
    """The nodes of a Cluster, each with some of the 16,384 slots.

    Names share `TAGS` hash tags. So all keys that begin with the key of one name are in one slot, as a script needs
    them, and one blocking command can wait for several names.

    Args:
        url: its name in messages.
        options: as in `Topology`, for all nodes.
        seeds: the nodes to ask first.

    """

    def __init__(self, url: str, options: dict[str, Any], seeds: Sequence[Address]) -> None:
        super().__init__(url, options)
        self._seeds = list(seeds)
        self._ranges: list[tuple[int, int, Address]] = []

    def key(self, prefix: str, name: str) -> str:  # noqa: D102
        return f"{{{prefix}:{zlib.crc32(name.encode()) % TAGS}}}{name}"

    def key_prefix(self, prefix: str) -> str:  # noqa: D102
        return f"{{{prefix}:"

    def hash_tag(self, key: str) -> str:  # noqa: D102
        return key[: key.index("}") + 1]

    def known(self, key: str) -> Address | None:  # noqa: D102
        if not self._ranges:
            return None
        from redis.crc import key_slot

        return self._owner(key_slot(key.encode()))

    def _owner(self, slot: int) -> Address | None:
        return next((address for first, last, address in self._ranges if first <= slot <= last), None)

    def find(self, key: str, ask: Ask) -> Address:  # noqa: D102
        return self._read_slots(ask, key)

    def forget(self) -> None:  # noqa: D102
        self._ranges = []

    def has_left(self, address: Address) -> bool:  # noqa: D102
        ranges = self._ranges
        return bool(ranges) and all(node != address for _, _, node in ranges)

    def moved(self, slot: int, host: str, port: int) -> None:  # noqa: D102
        # Other nodes may learn of the move later, so they are not asked.
        if owner := self._owner(slot):
            others = [one for one in self._ranges if one[:2] != (slot, slot)]
            self._ranges = [(slot, slot, Address(host or owner.host, port)), *others]

    def nodes(self, ask: Ask) -> list[Address]:  # noqa: D102
        self._read_slots(ask, None)
        return list({address: None for _, _, address in self._ranges})

    def _read_slots(self, ask: Ask, key: str | None) -> Address:
        """Ask one node after the other for the owner of the key, or of any slot; a removed node knows no slots."""
        problem: Exception = ConnectionError("no node of the Cluster answers")
        for seed in list(self._seeds):
            try:
                slots = ask(self, seed, ("CLUSTER", "SLOTS"))
            except Exception as error:  # noqa: BLE001  (the next one may answer)
                problem = error
                continue
            # An empty host stands for the host of the node that answered.
            ranges = [
                (first, last, Address(_text(master[0]) or seed.host, master[1])) for first, last, master, *_ in slots
            ]
            problem = ConnectionError("the Cluster has no node for the slot")
            if not ranges:
                continue
            self._ranges = ranges
            if found := ranges[0][2] if key is None else self.known(key):
                self._seeds = list({address: None for _, _, address in ranges} | dict.fromkeys(self._seeds))
                return found
        raise problem


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""

"""Where the servers are: one server, whoever Sentinel says, or the nodes of a Cluster.

Looking them up is rare and blocks; who runs in an event loop does it in a thread.
"""

import ssl
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from channelmap.layers.redis.tls import make_context

#: Asks one server one thing and returns its answer; raises OSError, Lost or hiredis.ReplyError.
Ask = Callable[["Place", "Address", Sequence[Any]], Any]

#: Seconds in which a connection must be there, and in which a command must be answered.
CONNECT_SECS, ANSWER_SECS = 3.0, 5.0

#: How many hash tags the channels of a layer in a Cluster have between them. A worker's blocked connections are
#: one for each at the most, and so many are enough to spread channels over a dozen nodes.
TAGS = 64


class Address(NamedTuple):
    """Where a server listens: host and port, or the path of a Unix socket."""

    host: str
    port: int = 6379
    path: str = ""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


class Place(ABC):
    """One entry of `hosts`: keeps a part of the keys, and knows which server has them just now.

    Args:
        url: its name in messages, without user name and password.
        options: what redis-py's connections are made with.

    """

    #: Whether another server may have a key tomorrow.
    moves = True

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.options = options
        self._tls: ssl.SSLContext | None = None

    def key(self, prefix: str, name: str) -> str:
        """Name the key of a channel."""
        return prefix + name

    def beginnings(self, prefix: str) -> list[str]:
        """Say what all keys of a layer begin with, those of its channels first."""
        return [prefix]

    def together(self, key: str) -> str:  # noqa: ARG002
        """Name the set of keys to which a key belongs and whose members one command may name together."""
        return ""

    @abstractmethod
    def known(self, key: str) -> Address | None:
        """Return which server has the key, as far as is known."""

    @abstractmethod
    def find(self, key: str, ask: Ask) -> Address:
        """Look up which server has the key; blocks. As `ask` raises."""

    @abstractmethod
    def forget(self) -> None:
        """Look it up again next time: a server was lost, or refused."""

    def has_left(self, address: Address) -> bool:  # noqa: ARG002
        """Whether it is known where the keys are, and none of them is at this address."""
        return False

    def moved(self, slot: int, host: str, port: int) -> None:  # noqa: ARG002
        """Note which node of a Cluster has a slot now, as another node says."""
        self.forget()

    @abstractmethod
    def everywhere(self, ask: Ask) -> list[Address]:
        """Look up all servers that have keys; blocks."""

    @property
    def patience(self) -> tuple[float, float]:
        """Seconds in which a connection must be there, and a command be answered: as redis-py's options say."""
        connect, answer = (self.options.get(name) for name in ("socket_connect_timeout", "socket_timeout"))
        return float(connect or CONNECT_SECS), float(answer or ANSWER_SECS)

    def greeting(self) -> list[tuple[Any, ...]]:
        """Make the commands with which a connection begins."""
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
    def secure(self) -> bool:
        """Whether connections are encrypted: by a ``rediss://`` URL, or as redis-py's own options say it."""
        return bool(self.options.get("ssl") or "SSL" in getattr(self.options.get("connection_class"), "__name__", ""))

    def tls(self) -> ssl.SSLContext | None:
        """Make the TLS context that redis-py's options describe; None for a plain connection.

        Raises:
            TLSUnusable: an option, or the file that it names, cannot be used.

        """
        if self._tls is None and self.secure:
            self._tls = make_context(self.options)
        return self._tls


class Server(Place):
    """One server that stays where it is."""

    moves = False

    def __init__(self, url: str, options: dict[str, Any], address: Address) -> None:
        super().__init__(url, options)
        self._address = address

    def known(self, key: str) -> Address:  # noqa: ARG002, D102
        return self._address

    def find(self, key: str, ask: Ask) -> Address:  # noqa: ARG002, D102
        return self._address

    def forget(self) -> None:  # noqa: D102
        pass

    def everywhere(self, ask: Ask) -> list[Address]:  # noqa: ARG002, D102
        return [self._address]


class Watched(Place):
    """The master of a service, as Sentinel names it.

    Args:
        url: its name in messages.
        options: for the connections to the master.
        service: the name under which the sentinels know it.
        sentinels: the sentinels, each as a place of its own.

    """

    def __init__(self, url: str, options: dict[str, Any], service: str, sentinels: Sequence[Server]) -> None:
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
            except Exception as error:  # noqa: BLE001  (whatever ails this one, the next may know)
                problem = error
                continue
            if found:
                self._master = Address(_text(found[0]), int(found[1]))
                # The one that answered is asked first next time.
                self._sentinels = [sentinel, *(one for one in self._sentinels if one is not sentinel)]
                return self._master
        raise problem

    def forget(self) -> None:  # noqa: D102
        self._master = None

    def has_left(self, address: Address) -> bool:  # noqa: D102
        return self._master not in {None, address}

    def everywhere(self, ask: Ask) -> list[Address]:  # noqa: D102
        return [self.known("") or self.find("", ask)]


class Cluster(Place):
    """The nodes of a Cluster, each of which has some of the 16,384 slots.

    Channels share `TAGS` hash tags: all keys of a channel are in one slot, as a script needs it, and channels of
    one tag can be waited for together. channels_redis has no Cluster, so there are no peers whose keys to share.
    """

    def __init__(self, url: str, options: dict[str, Any], seeds: Sequence[Address]) -> None:
        super().__init__(url, options)
        self._seeds = list(seeds)
        self._ranges: list[tuple[int, int, Address]] = []

    def key(self, prefix: str, name: str) -> str:  # noqa: D102
        return f"{{{prefix}:{zlib.crc32(name.encode()) % TAGS}}}{name}"

    def beginnings(self, prefix: str) -> list[str]:  # noqa: D102
        return [f"{{{prefix}:", f"{prefix}:group:"]

    def together(self, key: str) -> str:  # noqa: D102
        return key[: key.index("}") + 1]

    def known(self, key: str) -> Address | None:  # noqa: D102
        if not self._ranges:
            return None
        from redis.crc import key_slot

        return self._owner(key_slot(key.encode()))

    def _owner(self, slot: int) -> Address | None:
        return next((address for first, last, address in self._ranges if first <= slot <= last), None)

    def find(self, key: str, ask: Ask) -> Address:  # noqa: D102
        return self._look_around(ask, key)

    def forget(self) -> None:  # noqa: D102
        self._ranges = []

    def has_left(self, address: Address) -> bool:  # noqa: D102
        ranges = self._ranges
        return bool(ranges) and all(node != address for _, _, node in ranges)

    def moved(self, slot: int, host: str, port: int) -> None:  # noqa: D102
        # Other nodes may hear of it only later, so they are not asked.
        if owner := self._owner(slot):
            others = [one for one in self._ranges if one[:2] != (slot, slot)]
            self._ranges = [(slot, slot, Address(host or owner.host, port)), *others]

    def everywhere(self, ask: Ask) -> list[Address]:  # noqa: D102
        self._look_around(ask, None)
        return list({address: None for _, _, address in self._ranges})

    def _look_around(self, ask: Ask, key: str | None) -> Address:
        """Ask one node after the other until one knows who has the key, or any: one that was removed knows nothing."""
        problem: Exception = ConnectionError("no node of the Cluster answers")
        for seed in list(self._seeds):
            try:
                slots = ask(self, seed, ("CLUSTER", "SLOTS"))
            except Exception as error:  # noqa: BLE001  (whatever ails this one, the next may know)
                problem = error
                continue
            # A node that knows no name for itself means the one under which it was asked.
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

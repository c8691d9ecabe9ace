"""A client of Redis and Valkey: addresses, connections, look-ups and scripts. It knows nothing of what is kept there.

`hosts` reads where the servers are, and makes a `Topology` of each entry: one server, a Sentinel service or a Cluster.
`HashRing` spreads names over several of them. `ConnectionPool` runs commands and scripts in an event loop, `SyncPool`
outside of one. Both raise `LayerUnavailable`, whose text `faults` makes.

redis-py reads URLs and makes TLS contexts; hiredis packs commands and parses replies. No other package imports them.
"""

from channelmap.layers.redis.client.breaker import CircuitBreaker
from channelmap.layers.redis.client.clocks import ServerClocks
from channelmap.layers.redis.client.faults import CLOSED, is_about_one_key, note_failure, unavailable
from channelmap.layers.redis.client.hosts import read_hosts
from channelmap.layers.redis.client.pool import ConnectionPool
from channelmap.layers.redis.client.ring import HashRing
from channelmap.layers.redis.client.script import Script
from channelmap.layers.redis.client.sync import SyncPool
from channelmap.layers.redis.client.topology import Topology
from channelmap.layers.redis.client.watching import Watcher

__all__ = [
    "CLOSED",
    "CircuitBreaker",
    "ConnectionPool",
    "HashRing",
    "Script",
    "ServerClocks",
    "SyncPool",
    "Topology",
    "Watcher",
    "is_about_one_key",
    "note_failure",
    "read_hosts",
    "unavailable",
]

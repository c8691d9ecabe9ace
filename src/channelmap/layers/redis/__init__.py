"""A layer in Redis or Valkey that shares its keys with channels_redis 4.3, byte for byte.

`client` is a client of Redis that knows nothing of channels. The queue is built on it: `layer` has the public class,
`scripts` and `lease_scripts` the steps that run inside the server, and `loop_state` the tasks and connections of an
event loop. `queues` and `keys` name the keys, `codec` reads and writes their content.
"""

from channelmap.layers.redis.layer import RedisChannelLayer

__all__ = ["RedisChannelLayer"]

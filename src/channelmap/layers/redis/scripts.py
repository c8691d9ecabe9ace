"""What is done inside the server, each in one step.

The keys of a channel, all from its queue's key K, to which `$` adds what no channel's name can contain:

- K: the waiting events, sorted by the time at which they were sent. This and `K$inflight` are channels_redis'.
- `K$until`: the leases, sorted by their ends; never expires.
- `K$batches`: for each lease its events, under its name, and its status, under its name and a colon.
- `K$scheduled`: the events that wait for a time, sorted by it: `attempt sent member`. For an event that was sent with a
  delay, `sent` is when it is due; it then goes to K, where every reader finds it. A retry does not.
- `K$paused`: is there while the channel is paused.
- `K$dead`: the dead letters, a stream.
- `K$leases`, `K$leased`: leases of version 0.1, which `TAKE` takes over as they run out.

`SEND` and `SCHEDULE` name one key: while a slot of a Cluster moves, a node refuses a script with several keys. The
number of events under the other key counts if the node can tell it.

`allow-oom`: a server that is out of memory still lets events out, given back and settled.
"""

from dataclasses import dataclass, field
from hashlib import sha1

#: An event's time is the one that its sender says, but no further from the server's than so many seconds: it decides
#: when the event expires, and in which order events are taken.
_SKEW_SECS = 5

NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
"""
# The server writes a number that it is given with all its digits; `tostring` would not.
EXPIRE = """
if ARGV[1] ~= '' then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1]) end
"""
# Scores that would be the same differ by as little as they can, or the order of a sender would be lost.
_ADD = f"""
local last = 0
local function add(score, member)
    last = math.max(math.min(tonumber(score), now + {_SKEW_SECS}), now - {_SKEW_SECS}, last + 2.5e-7)
    redis.call('ZADD', KEYS[1], last, member)
end
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the name under which the server keeps it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.text.encode()).hexdigest())  # noqa: S324  (Redis' own naming)


#: K; seconds after which events expire or '', seconds to live or '', capacity, how many events need room at least, then
#: score and member of each. How many were added, the first ones; none when there is too little room.
SEND = Script(f"""#!lua
{NOW}{EXPIRE}{_ADD}
local scheduled = redis.pcall('ZCARD', KEYS[1] .. '$scheduled')
local room = ARGV[3] - redis.call('ZCARD', KEYS[1]) - (tonumber(scheduled) or 0)
if room < tonumber(ARGV[4]) then return 0 end
local added = math.min(room, (#ARGV - 4) / 2)
for i = 5, 3 + 2 * added, 2 do add(ARGV[i], ARGV[i + 1]) end
if ARGV[2] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[2]) else redis.call('PERSIST', KEYS[1]) end
return added
""")

#: K$scheduled; capacity, seconds until the events are due, then their members. Whether there was room; without it none
#: was added.
SCHEDULE = Script(f"""#!lua
{NOW}
local waiting = redis.pcall('ZCARD', string.sub(KEYS[1], 1, -#'$scheduled' - 1))
local room = ARGV[1] - redis.call('ZCARD', KEYS[1]) - (tonumber(waiting) or 0)
if room < #ARGV - 2 then return 0 end
for i = 3, #ARGV do
    -- A little later each, so that they come in their order.
    local due = string.format('%.17g', now + ARGV[2] + i * 1e-6)
    redis.call('ZADD', KEYS[1], due, '1 ' .. due .. ' ' .. ARGV[i])
end
return 1
""")

#: K, K$scheduled and K$paused of each of several channels; for each the seconds to live of K, or ''. Moves events that
#: are due to K, retries too: nobody takes from these channels under a lease. For each channel in how many seconds the
#: next event is due, or '', and whether it is paused.
MOVE_DUE = Script(f"""#!lua flags=allow-oom
{NOW}
local found = {{}}
for i = 1, #KEYS, 3 do
    local ttl = ARGV[(i + 2) / 3]
    local due = redis.pcall('ZRANGE', KEYS[i + 1], '-inf', string.format('%.17g', now), 'BYSCORE', 'LIMIT', 0, 1000)
    if due.err then due = {{}} end
    local moved = 0
    for _, entry in ipairs(due) do
        local member = string.match(entry, '^%d+ %S+ (.*)$')
        local put = redis.pcall('ZADD', KEYS[i], redis.call('ZSCORE', KEYS[i + 1], entry), member)
        -- A key that holds something else must not stop the other channels; a take says what is wrong.
        if type(put) == 'table' then break end
        redis.call('ZREM', KEYS[i + 1], entry)
        moved = moved + 1
    end
    if moved > 0 then
        if ttl ~= '' then redis.call('EXPIRE', KEYS[i], ttl) else redis.call('PERSIST', KEYS[i]) end
    end
    local next = redis.pcall('ZRANGE', KEYS[i + 1], 0, 0, 'WITHSCORES')
    local wait = next[2] and string.format('%.6f', math.max(0, next[2] - now)) or ''
    found[#found + 1] = {{moved < #due and '1' or wait, redis.call('EXISTS', KEYS[i + 2])}}
end
return found
""")

#: K; seconds to live or '', then score and member of each.
PUT_BACK = Script("""#!lua flags=allow-oom
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[1] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[1]) else redis.call('PERSIST', KEYS[1]) end
""")

#: K, K$inflight, and the keys of leases, those of 0.1 too: moves back what a reader of channels_redis had in hand when
#: it crashed; how many keys of leases there are.
ADOPT = Script("""#!lua flags=allow-oom
local left = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #left, 2 do redis.call('ZADD', KEYS[1], left[i + 1], left[i]) end
redis.call('DEL', KEYS[2])
return redis.call('EXISTS', unpack(KEYS, 3))
""")

#: K, K$dead, K$scheduled; as SEND, and the letter's id as the last. -1 when there is no such letter.
REPLAY = Script(f"""#!lua
{NOW}{_ADD}
local id = ARGV[#ARGV]
if #redis.call('XRANGE', KEYS[2], id, id) == 0 then return -1 end
{EXPIRE}
if redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[3]) then return 0 end
add(ARGV[5], ARGV[6])
if ARGV[2] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[2]) else redis.call('PERSIST', KEYS[1]) end
redis.call('XDEL', KEYS[2], id)
if redis.call('XLEN', KEYS[2]) == 0 then redis.call('DEL', KEYS[2]) end
return 1
""")

#: K$dead; the letter's id. How many letters were deleted. A stream without entries would stay until it expires.
DROP = Script("""#!lua flags=allow-oom
local count = redis.call('XDEL', KEYS[1], ARGV[1])
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
return count
""")

#: A group; seconds for which a membership lasts, channel.
JOIN = Script("""#!lua
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.17g', time[1] + time[2] / 1e6), ARGV[2])
redis.call('EXPIRE', KEYS[1], math.max(1, math.ceil(ARGV[1])))
""")

#: A group; seconds for which a membership lasts. Its members.
MEMBERS = Script(f"""#!lua flags=allow-oom
{NOW}{EXPIRE}
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")

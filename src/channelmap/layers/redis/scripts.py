"""The steps that run inside the server, each as one script.

The keys of a channel begin with its queue's key K. No channel's name contains a `$`.

- K: the waiting events, sorted by the time of sending. channels_redis uses this key and `K$inflight`, too.
- `K$until`: the leases, sorted by their ends; it never expires.
- `K$batches`: the events of each lease under its name, and its status under its name and a colon.
- `K$scheduled`: the delayed events and retries, sorted by the time when they are due: `attempt sent member`. For a
  delayed event, `sent` is when it is due; it then moves to K, where every reader finds it. A retry does not.
- `K$paused`: exists while the channel is paused.
- `K$dead`: the dead letters, a stream.
- `K$leases`, `K$leased`: leases of version 0.1, which `TAKE` takes over as they run out.

`SEND` and `SCHEDULE` name one key: while a slot of a Cluster moves, a node refuses a script with several keys. Events
under the other key count if the node can read it.

With `allow-oom`, events can be taken, returned and settled when the server is out of memory.
"""

from channelmap.layers.redis.client import Script

#: The largest difference, in seconds, between an event's time of sending, by its sender's clock, and the server's time.
#: The time decides when the event expires, and in which order events are taken.
_SKEW_SECS = 5

NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
"""
# The server writes a number argument with all its digits; `tostring` would not.
EXPIRE = """
if ARGV[1] ~= '' then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1]) end
"""
# Equal scores are made to differ by the smallest step, or the order of a sender would be lost.
_ADD = f"""
local last = 0
local function add(score, member)
    last = math.max(math.min(tonumber(score), now + {_SKEW_SECS}), now - {_SKEW_SECS}, last + 2.5e-7)
    redis.call('ZADD', KEYS[1], last, member)
end
"""


#: Sends events. Keys: K. Arguments: seconds after which events expire or '', seconds to live or '', capacity, the
#: minimum number of events that must fit, then score and member of each. Returns how many were added, the first ones;
#: 0 if fewer than the minimum fit.
SEND = Script(f"""#!lua
{NOW}{EXPIRE}{_ADD}
local scheduled = redis.pcall('ZCARD', KEYS[1] .. '$scheduled')
local capacity, minimum = tonumber(ARGV[3]), tonumber(ARGV[4])
local room = capacity - redis.call('ZCARD', KEYS[1]) - (tonumber(scheduled) or 0)
if room < minimum then return 0 end
local added = math.min(room, (#ARGV - 4) / 2)
for i = 5, 3 + 2 * added, 2 do add(ARGV[i], ARGV[i + 1]) end
if ARGV[2] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[2]) else redis.call('PERSIST', KEYS[1]) end
return added
""")

#: Schedules events. Keys: K$scheduled. Arguments: capacity, seconds until the events are due, then their members.
#: Returns 1, or 0 if not all fit; then none was added.
SCHEDULE = Script(f"""#!lua
{NOW}
local waiting = redis.pcall('ZCARD', string.sub(KEYS[1], 1, -#'$scheduled' - 1))
local room = ARGV[1] - redis.call('ZCARD', KEYS[1]) - (tonumber(waiting) or 0)
if room < #ARGV - 2 then return 0 end
for i = 3, #ARGV do
    -- Slightly later each, so that they are taken in order.
    local due = string.format('%.17g', now + ARGV[2] + i * 1e-6)
    redis.call('ZADD', KEYS[1], due, '1 ' .. due .. ' ' .. ARGV[i])
end
return 1
""")

#: Moves due events to K, retries too: no worker takes from these channels with a lease. Keys: K, K$scheduled and
#: K$paused of each channel. Arguments: the seconds to live of K, or '', for each. Returns for each the seconds until
#: the next event is due, or '', and whether the channel is paused.
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
        -- A key of another type must not stop the other channels; a take reports it.
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

#: Returns events to the front. Keys: K. Arguments: seconds to live or '', then score and member of each.
PUT_BACK = Script("""#!lua flags=allow-oom
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[1] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[1]) else redis.call('PERSIST', KEYS[1]) end
""")

#: Returns the events that a crashed reader of channels_redis had in flight. Keys: K, K$inflight, and the keys of
#: leases, including those of version 0.1. Returns how many keys of leases exist.
ADOPT = Script("""#!lua flags=allow-oom
local left = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #left, 2 do redis.call('ZADD', KEYS[1], left[i + 1], left[i]) end
redis.call('DEL', KEYS[2])
return redis.call('EXISTS', unpack(KEYS, 3))
""")

#: Moves the event of a dead letter to K. Keys: K, K$dead, K$scheduled. Arguments: as for `SEND`, then the letter's id.
#: Returns 1, 0 if the channel is full, or -1 if there is no such letter.
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

#: Deletes a dead letter, and the stream with its last one. Keys: K$dead. Arguments: the letter's id. Returns how many
#: letters were deleted.
DROP = Script("""#!lua flags=allow-oom
local count = redis.call('XDEL', KEYS[1], ARGV[1])
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
return count
""")

#: Adds a channel to a group. Keys: the group. Arguments: seconds for which a membership lasts, channel.
JOIN = Script("""#!lua
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.17g', time[1] + time[2] / 1e6), ARGV[2])
redis.call('EXPIRE', KEYS[1], math.max(1, math.ceil(ARGV[1])))
""")

#: Returns the members of a group. Keys: the group. Arguments: seconds for which a membership lasts.
MEMBERS = Script(f"""#!lua flags=allow-oom
{NOW}{EXPIRE}
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")

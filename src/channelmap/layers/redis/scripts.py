"""What is done inside the server, each in one step.

The keys of a channel, all from its queue's key K, to which `$` adds what no channel's name can contain:

- K: the waiting events, sorted by the time at which they were sent. This and `K$inflight` are channels_redis'.
- `K$leases`: the events under a lease, sorted by its end; never expires.
- `K$leased`: for each of them `attempt holder sent`: the number of this attempt, whose lease it is, when it was sent.
- `K$dead`: the dead letters, a stream.

The holder of a lease is:

- `TICKET`: the event is not a suspect.
- `TICKET+CRASHES`: the event is a suspect, and so many of its last leases ran out after they were begun.
- `TICKET+CRASHES+begun`: the same, and its handler has started.
- `+CRASHES`: nobody; a suspect that comes again.
- `-`: nobody; the event comes again as its next attempt, and is not a suspect.

Version 0.1 writes `TICKET` and `-`, and reads all of them: as another holder's ticket.

Each event under a lease is in both. `TAKE` repairs what differs: it lets such an event be delivered again.

Who comes too late has a ticket that is no longer there: it changes nothing. What was delivered before never goes
back to K, where it would expire and lose count of its attempts: its lease ends at once instead.

`allow-oom`: a server that is out of memory still lets events out, given back and settled.
"""

from dataclasses import dataclass, field
from hashlib import sha1

#: An event's time is the one that its sender says, but no further from the server's than so many seconds: it decides
#: when the event expires, and in which order events are taken.
_SKEW_SECS = 5

_NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
"""
# The server writes a number that it is given with all its digits; `tostring` would not.
_EXPIRE = """
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
{_NOW}{_EXPIRE}{_ADD}
local room = ARGV[3] - redis.call('ZCARD', KEYS[1])
if room < tonumber(ARGV[4]) then return 0 end
local added = math.min(room, (#ARGV - 4) / 2)
for i = 5, 3 + 2 * added, 2 do add(ARGV[i], ARGV[i + 1]) end
if ARGV[2] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[2]) else redis.call('PERSIST', KEYS[1]) end
return added
""")

#: K; seconds to live or '', then score and member of each.
PUT_BACK = Script("""#!lua flags=allow-oom
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[1] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[1]) else redis.call('PERSIST', KEYS[1]) end
""")

#: K, K$inflight, K$leases, K$leased: moves back what a reader of channels_redis had in hand when it crashed; how many
#: of the two keys of leases there are.
ADOPT = Script("""#!lua flags=allow-oom
local left = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for i = 1, #left, 2 do redis.call('ZADD', KEYS[1], left[i + 1], left[i]) end
redis.call('DEL', KEYS[2])
return redis.call('EXISTS', KEYS[3], KEYS[4])
""")

#: K, K$leases, K$leased; seconds after which events expire or '', limit, seconds of the lease or '' for good, ticket.
#: What was taken as member, score and attempt each, in how many seconds the next lease ends, or '', and how many
#: faults of K$leases and K$leased were repaired. Such faults are made by others: by DEL, EXPIRE, or an eviction. Under
#: a lease a suspect is taken alone, and has its crashes as a fourth value.
TAKE = Script(
    f"""#!lua flags=allow-oom
{_NOW}
local function expire() {_EXPIRE} end
"""
    """
local repaired = redis.call('PERSIST', KEYS[2]) + redis.call('PERSIST', KEYS[3])
local function read(member)
    local lease = redis.call('HGET', KEYS[3], member) or ''
    local attempt, holder, sent = string.match(lease, '^(%d+) (%S+) (-?%d[%d.e+-]*)$')
    if attempt and #attempt < 10 and tonumber(sent) then return attempt, holder, sent end
end
local function repair()
    for _, member in ipairs(redis.call('HKEYS', KEYS[3])) do
        if not redis.call('ZSCORE', KEYS[2], member) then
            -- Its holder, if it lives, has the time of a lease to renew or settle it.
            redis.call('ZADD', KEYS[2], string.format('%.17g', now + (tonumber(ARGV[3]) or 0)), member)
            repaired = repaired + 1
        end
    end
    local leases = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
    for i = 1, #leases, 2 do
        if not read(leases[i]) then
            -- It was sent before its lease ended, and its holder may have crashed.
            local sent = math.min(now, tonumber(leases[i + 1]))
            redis.call('HSET', KEYS[3], leases[i], '1 +0 ' .. string.format('%.17g', sent))
            repaired = repaired + 1
        end
    end
end
if redis.call('ZCARD', KEYS[2]) ~= redis.call('HLEN', KEYS[3]) then repair() end
local taken = {}
local late = redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.17g', now), 'BYSCORE', 'LIMIT', 0, ARGV[2])
local alone = false
for _, member in ipairs(late) do
    local attempt, holder, sent = read(member)
    if not attempt then
        repair()
        attempt, holder, sent = read(member)
    end
    if holder == '-' then
        taken[#taken + 1] = {member, sent, attempt + 1}
    else
        local crashes, begun = string.match(holder, '%+(%d+)(%+?)')
        local counted = begun == '+' and 1 or 0
        if ARGV[3] == '' then
            taken[#taken + 1] = {member, sent, attempt + counted}
        else
            if #taken == 0 then taken[1] = {member, sent, attempt + counted, (crashes or 0) + counted} end
            alone = true
            break
        end
    end
end
if not alone and #taken < tonumber(ARGV[2]) then
    expire()
    local fresh = redis.call('ZPOPMIN', KEYS[1], ARGV[2] - #taken)
    for i = 1, #fresh, 2 do taken[#taken + 1] = {fresh[i], fresh[i + 1], 1} end
end
for i, event in ipairs(taken) do
    if ARGV[3] == '' then
        redis.call('ZREM', KEYS[2], event[1])
        redis.call('HDEL', KEYS[3], event[1])
    else
        -- A little later each, so that what runs out together comes again in its order.
        redis.call('ZADD', KEYS[2], string.format('%.17g', now + ARGV[3] + i * 1e-6), event[1])
        local holder = event[4] and ARGV[4] .. '+' .. event[4] or ARGV[4]
        redis.call('HSET', KEYS[3], event[1], event[3] .. ' ' .. holder .. ' ' .. event[2])
    end
end
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {taken, next[2] and string.format('%.6f', next[2] - now) or '', repaired}
"""
)

#: K and K$leases of each of several channels. For each 1 if a `TAKE` is worth while, else 0.
FIND = Script("""#!lua flags=no-writes
local time = redis.call('TIME')
local now = string.format('%.17g', time[1] + time[2] / 1e6)
local found = {}
for i = 1, #KEYS, 2 do
    -- If a key cannot be read, `TAKE` says why.
    local nothing = redis.pcall('EXISTS', KEYS[i]) == 0 and redis.pcall('ZCOUNT', KEYS[i + 1], '-inf', now) == 0
    found[#found + 1] = nothing and 0 or 1
end
return found
""")

#: K$leases, K$leased; then member and ticket of each.
SETTLE = Script("""#!lua flags=allow-oom
for i = 1, #ARGV, 2 do
    local lease = redis.call('HGET', KEYS[2], ARGV[i])
    if lease and string.match(lease, '^%d+ ([^ +]*)') == ARGV[i + 1] then
        redis.call('HDEL', KEYS[2], ARGV[i])
        redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
""")

#: K$leases, K$leased; seconds from now at which the leases end, then member and ticket of each.
POSTPONE = Script("""#!lua flags=allow-oom
local time = redis.call('TIME')
for i = 2, #ARGV, 2 do
    local lease = redis.call('HGET', KEYS[2], ARGV[i])
    if lease and string.match(lease, '^%d+ ([^ +]*)') == ARGV[i + 1] then
        local ends = time[1] + time[2] / 1e6 + ARGV[1] + i * 1e-6
        redis.call('ZADD', KEYS[1], string.format('%.17g', ends), ARGV[i])
    end
end
""")

#: K$leased; member and ticket: whether its lease is there; the handler of its event starts.
BEGIN = Script("""#!lua flags=allow-oom
local lease = redis.call('HGET', KEYS[1], ARGV[1])
local attempt, ticket, crashes, sent = string.match(lease or '', '^(%d+) ([^ +]*)%+?(%d*)%S* (%S+)$')
if ticket ~= ARGV[2] then return 0 end
local holder = ticket .. '+' .. (crashes ~= '' and crashes or '0') .. '+begun'
redis.call('HSET', KEYS[1], ARGV[1], attempt .. ' ' .. holder .. ' ' .. sent)
return 1
""")

#: K$leases, K$leased; seconds from now at which the event comes again, member and ticket.
RETRY = Script("""#!lua flags=allow-oom
local lease = redis.call('HGET', KEYS[2], ARGV[2])
local attempt, ticket, sent = string.match(lease or '', '^(%d+) ([^ +]*)%S* (%S+)$')
if ticket == ARGV[3] then
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[1], string.format('%.17g', time[1] + time[2] / 1e6 + ARGV[1]), ARGV[2])
    redis.call('HSET', KEYS[2], ARGV[2], attempt .. ' - ' .. sent)
end
""")

#: K, K$leases, K$leased; seconds to live or '', then member and ticket of each.
RELEASE = Script("""#!lua flags=allow-oom
for i = 2, #ARGV, 2 do
    local member = ARGV[i]
    local lease = redis.call('HGET', KEYS[3], member)
    local attempt, ticket, crashes, sent = string.match(lease or '', '^(%d+) ([^ +]*)%+?(%d*)%S* (%S+)$')
    if ticket == ARGV[i + 1] then
        if crashes ~= '' then
            -- As below; a suspect stays one.
            redis.call('ZADD', KEYS[2], sent, member)
            redis.call('HSET', KEYS[3], member, attempt .. ' +' .. crashes .. ' ' .. sent)
        elseif attempt == '1' then
            redis.call('HDEL', KEYS[3], member)
            redis.call('ZREM', KEYS[2], member)
            redis.call('ZADD', KEYS[1], sent, member)
            if ARGV[1] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[1]) else redis.call('PERSIST', KEYS[1]) end
        else
            -- Over since it was sent: at once, in the order of sending, and without counting as an attempt.
            redis.call('ZADD', KEYS[2], sent, member)
            redis.call('HSET', KEYS[3], member, (attempt - 1) .. ' - ' .. sent)
        end
    end
end
""")

#: K$dead, K$leases, K$leased; letters to keep, seconds to keep them, then for each letter itself, member and ticket of
#: its event ('' each for one that was taken for good).
BURY = Script("""#!lua flags=allow-oom
local before, added = redis.call('XLEN', KEYS[1]), 0
for first = 3, #ARGV, 3 do
    local letter, member, ticket = ARGV[first], ARGV[first + 1], ARGV[first + 2]
    local lease = redis.call('HGET', KEYS[3], member)
    if lease and string.match(lease, '^%d+ ([^ +]*)') == ticket then
        redis.call('HDEL', KEYS[3], member)
        redis.call('ZREM', KEYS[2], member)
    end
    if tonumber(ARGV[1]) > 0 then
        redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[1], '*', 'letter', letter)
        added = added + 1
    end
end
if tonumber(ARGV[1]) > 0 then
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%d000', redis.call('TIME')[1] - ARGV[2]))
    redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return before + added - redis.call('XLEN', KEYS[1])
""")

#: K, K$dead; as SEND, and the letter's id as the last. -1 when there is no such letter.
REPLAY = Script(f"""#!lua
{_NOW}{_ADD}
local id = ARGV[#ARGV]
if #redis.call('XRANGE', KEYS[2], id, id) == 0 then return -1 end
{_EXPIRE}
if redis.call('ZCARD', KEYS[1]) + 1 > tonumber(ARGV[3]) then return 0 end
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
{_NOW}{_EXPIRE}
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")

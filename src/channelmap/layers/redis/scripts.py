"""The steps that run inside the server, each as one script.

The keys of a channel begin with its queue's key K. No channel's name contains a `$`.

- K: the waiting events, sorted by the time of sending. channels_redis uses this key and `K$inflight`, too.
- `K$until`: the leases, sorted by their ends; it never expires.
- `K$batches`: the events of each lease under its name, and its status under its name and a colon.
- `K$scheduled`: the delayed events and retries, sorted by the time when they are due: `attempt sent member`. For a
  delayed event, `sent` is when it is due; it then moves to K, where every reader finds it. A retry does not.
- `K$paused`: exists while the channel is paused.
- `K$dead`: the dead letters, a stream.
- `K$codes`: the number of dead letters by code, '' for those that were written without one. If their sum is not the
  length of `K$dead`, version 0.1 has changed that, and the letters are counted again.
- `K$totals`: `t:NAME` has a total; `w:ID` has the number of the last heartbeat of a worker that added to these totals,
  and the time. Only in the channel's home.
- `K$leases`, `K$leased`: leases of version 0.1, which `TAKE` takes over as they run out.

With P for the prefix of all keys:

- `P$workers`, `P$workers$seen`: the workers as JSON by id, and their ids sorted by the times of their last heartbeats.
- `P$wake:…`: ends a blocking pop.
- `P:group:NAME`: the members of a group, sorted by the times at which they were added.

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

#: Moves due events to K, for takes without a lease. Retries stay, since K would lose their attempts: `TAKE` takes them.
#: Keys: K, K$scheduled, K$paused and K$until of each channel. Arguments: the seconds to live of K, or '', for each.
#: Returns for each the seconds until the next event is due, or '', whether the channel is paused, and whether it has
#: leases or due retries.
MOVE_DUE = Script(f"""#!lua flags=allow-oom
{NOW}
local found = {{}}
for i = 1, #KEYS, 4 do
    local ttl = ARGV[(i + 3) / 4]
    local due = redis.pcall('ZRANGE', KEYS[i + 1], '-inf', string.format('%.17g', now), 'BYSCORE', 'LIMIT', 0, 1000)
    if due.err then due = {{}} end
    local moved, leased = 0, redis.call('EXISTS', KEYS[i + 3])
    for _, entry in ipairs(due) do
        local attempt, member = string.match(entry, '^(%d+) %S+ (.*)$')
        if attempt ~= '1' then
            leased = 1
        else
            local put = redis.pcall('ZADD', KEYS[i], redis.call('ZSCORE', KEYS[i + 1], entry), member)
            -- A key of another type must not stop the other channels; a take reports it.
            if type(put) == 'table' then break end
            redis.call('ZREM', KEYS[i + 1], entry)
            moved = moved + 1
        end
    end
    if moved > 0 then
        if ttl ~= '' then redis.call('EXPIRE', KEYS[i], ttl) else redis.call('PERSIST', KEYS[i]) end
    end
    local next = redis.pcall('ZRANGE', KEYS[i + 1], 0, 0, 'WITHSCORES')
    local wait = next[2] and string.format('%.6f', math.max(0, next[2] - now)) or ''
    found[#found + 1] = {{moved < #due and '1' or wait, redis.call('EXISTS', KEYS[i + 2]), leased}}
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

#: Counts dead letters by code. `count_codes` returns the numbers, and whether they are those of the hash.
COUNT_CODES = """
local function code_of(entry) return entry[2][6] or '' end
local function count_codes(stream, hash)
    local codes, sum, kept = {}, 0, redis.call('HGETALL', hash)
    for i = 1, #kept, 2 do
        codes[kept[i]] = tonumber(kept[i + 1])
        sum = sum + kept[i + 1]
    end
    if sum == redis.call('XLEN', stream) then return codes, true end
    codes = {}
    local first, some = '-', nil
    repeat
        some = redis.call('XRANGE', stream, first, '+', 'COUNT', 100)
        for _, entry in ipairs(some) do
            codes[code_of(entry)] = (codes[code_of(entry)] or 0) + 1
            first = '(' .. entry[1]
        end
    until #some < 100
    return codes, false
end
"""
#: Keeps the numbers of dead letters by code. `DEAD` and `CODES` are variables with the keys. `note` is called with
#: letters that are deleted, `keep_codes` after all changes.
KEEP_CODES = f"""
{COUNT_CODES}
local function note(entries)
    for _, entry in ipairs(entries) do redis.call('HINCRBY', CODES, code_of(entry), -1) end
end
local function keep_codes()
    local codes, are_kept = count_codes(DEAD, CODES)
    if not are_kept then
        redis.call('DEL', CODES)
        for code, count in pairs(codes) do redis.call('HSET', CODES, code, count) end
    end
    -- They live as long as the letters; without letters this deletes them.
    redis.call('PEXPIRE', CODES, redis.call('PTTL', DEAD))
end
"""

#: Moves the event of a dead letter to K. Keys: K, K$dead, K$codes, K$scheduled. Arguments: as for `SEND`, then the
#: letter's id. Returns 1, 0 if the channel is full, or -1 if there is no such letter.
REPLAY = Script(f"""#!lua
local DEAD, CODES = KEYS[2], KEYS[3]
{NOW}{_ADD}{KEEP_CODES}
local id = ARGV[#ARGV]
local found = redis.call('XRANGE', DEAD, id, id)
if #found == 0 then return -1 end
{EXPIRE}
if redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[3]) then return 0 end
add(ARGV[5], ARGV[6])
if ARGV[2] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[2]) else redis.call('PERSIST', KEYS[1]) end
note(found)
redis.call('XDEL', DEAD, id)
if redis.call('XLEN', DEAD) == 0 then redis.call('DEL', DEAD) end
keep_codes()
return 1
""")

#: Deletes a dead letter, and the stream with its last one. Keys: K$dead, K$codes. Arguments: the letter's id. Returns
#: how many letters were deleted.
DROP = Script(f"""#!lua flags=allow-oom
local DEAD, CODES = KEYS[1], KEYS[2]
{KEEP_CODES}
note(redis.call('XRANGE', DEAD, ARGV[1], ARGV[1]))
local count = redis.call('XDEL', DEAD, ARGV[1])
if redis.call('XLEN', DEAD) == 0 then redis.call('DEL', DEAD) end
keep_codes()
return count
""")

#: Deletes the waiting and scheduled events of a channel. Keys: K, K$scheduled. Returns how many there were of each.
PURGE = Script("""#!lua flags=allow-oom
local found = {redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2])}
redis.call('UNLINK', KEYS[1], KEYS[2])
return found
""")

#: Adds to totals, once for each number of a worker. Keys: K$totals of each channel. Arguments: the worker's id, the
#: number of its heartbeat, seconds after which a number is forgotten; then for each channel the number of its totals,
#: and name and increment of each.
ADD_TOTALS = Script(f"""#!lua flags=allow-oom
{NOW}
local worker, number, oldest = 'w:' .. ARGV[1], tonumber(ARGV[2]), now - ARGV[3]
local function forget_old_numbers(key)
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
        local time = string.sub(fields[i], 1, 2) == 'w:' and string.match(fields[i + 1], ' (.*)$')
        if time and tonumber(time) < oldest then redis.call('HDEL', key, fields[i]) end
    end
end
local i = 4
for _, key in ipairs(KEYS) do
    local next = i + 1 + 2 * ARGV[i]
    local last = redis.call('HGET', key, worker)
    -- Few workers are new, so this costs nothing most of the time.
    if not last then forget_old_numbers(key) end
    if not last or tonumber(string.match(last, '^%d+')) < number then
        for j = i + 1, next - 1, 2 do redis.call('HINCRBY', key, 't:' .. ARGV[j], ARGV[j + 1]) end
        redis.call('HSET', key, worker, string.format('%d %.6f', number, now))
    end
    i = next
end
""")

#: Lists a worker, or removes it, and removes those that are not alive. Keys: P$workers, P$workers$seen. Arguments: the
#: worker's id, the worker or '' to remove it, seconds after which a worker is not alive.
LIST_WORKER = Script(f"""#!lua flags=allow-oom
{NOW}
local gone = redis.call('ZRANGE', KEYS[2], '-inf', string.format('(%.17g', now - ARGV[3]), 'BYSCORE')
gone[#gone + 1] = ARGV[1]
for _, id in ipairs(gone) do
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
end
if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('ZADD', KEYS[2], string.format('%.17g', now), ARGV[1])
end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, math.ceil(ARGV[3]) + 1) end
""")

#: Returns the workers that are alive, each with the seconds since its last heartbeat. Keys: P$workers, P$workers$seen.
#: Arguments: seconds after which a worker is not alive.
WORKERS = Script(f"""#!lua flags=no-writes
{NOW}
local found = {{}}
local oldest = string.format('%.17g', now - ARGV[1])
local ids = redis.call('ZRANGE', KEYS[2], oldest, '+inf', 'BYSCORE', 'WITHSCORES')
for i = 1, #ids, 2 do
    local worker = redis.call('HGET', KEYS[1], ids[i])
    if worker then found[#found + 1] = {{worker, string.format('%.6f', now - ids[i + 1])}} end
end
return found
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

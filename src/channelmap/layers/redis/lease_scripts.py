"""The steps about leases that run inside the server, each as one script. `lease_record` describes the record of leases.

`scripts` lists the keys of a channel.
"""

from channelmap.layers.redis.client import Script
from channelmap.layers.redis.lease_record import END, MOVE, PARTS, RECORD
from channelmap.layers.redis.scripts import COUNT_CODES, EXPIRE, KEEP_CODES, NOW

#: One lease takes no further events once it has so many bytes.
_LARGEST = 8 << 20

#: Takes events, with a lease or for good. With a lease, a suspect is taken alone.
#:
#: Keys: K, K$until, K$batches, K$scheduled, K$paused, K$leases, K$leased. Arguments: seconds after which events expire
#: or '', limit, seconds of the lease or '' for good, ticket, seconds to live of K or ''. The reply has:
#:
#: - the events, member and time of sending of each, and their attempts, or 0;
#: - the crashes of a suspect, or -1;
#: - the seconds until the next lease ends or the next event is due, or '';
#: - the number of repaired faults in the record of leases, and the number of leases that had lost their events. Other
#:   clients cause such faults with DEL or EXPIRE, or the server by an eviction.
TAKE = Script(
    f"""#!lua flags=allow-oom
local UNTIL, BATCHES = KEYS[2], KEYS[3]
{NOW}{RECORD}
local function expire() {EXPIRE} end
local largest = {_LARGEST}
"""
    """
if redis.call('EXISTS', KEYS[5]) == 1 then return {{}, 0, -1, '', 0, 0} end
local limit, secs, ticket = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local repaired, lost, named = redis.call('PERSIST', UNTIL) + redis.call('PERSIST', BATCHES), 0, 0
local function new_name()
    named = named + 1
    return ticket .. '~' .. named
end
local function repair(lease)
    local events = events_of(lease)
    if events then
        local _, _, marks = status_of(lease)
        if not marks or 2 * #marks ~= #events then write_status(lease, 0, '-', string.rep('1', #events / 2)) end
        -- If its holder is alive, it has the time of a lease to renew or settle it.
        redis.call('ZADD', UNTIL, 'NX', at(now + (tonumber(secs) or 0)), lease)
        repaired = repaired + 1
    else
        lost = lost + drop(lease)
    end
end
local function repair_all()
    for _, field in ipairs(redis.call('HKEYS', BATCHES)) do
        local lease = string.match(field, '^(.*):$') or field
        if not (redis.call('ZSCORE', UNTIL, lease) and status_of(lease)) then repair(lease) end
    end
    for _, lease in ipairs(redis.call('ZRANGE', UNTIL, 0, -1)) do
        if redis.call('HEXISTS', BATCHES, lease) == 0 then repair(lease) end
    end
end
if 2 * redis.call('ZCARD', UNTIL) ~= redis.call('HLEN', BATCHES) then repair_all() end
-- Take over leases of version 0.1 that have run out.
if redis.call('EXISTS', KEYS[6]) == 1 then
    local old = redis.call('ZRANGE', KEYS[6], '-inf', at(now), 'BYSCORE', 'WITHSCORES')
    for i = 1, #old, 2 do
        local note = redis.call('HGET', KEYS[7], old[i]) or ''
        local attempt, holder, sent = string.match(note, '^(%d+) (%S+) (-?%d[%d.e+-]*)$')
        if not (attempt and #attempt < 10 and tonumber(sent)) then attempt, holder, sent = 1, '', at(now) end
        if holder == '-' then
            redis.call('ZADD', KEYS[4], old[i + 1], attempt + 1 .. ' ' .. sent .. ' ' .. old[i])
        else
            write_one(new_name(), tonumber(old[i + 1]), {old[i], sent, tonumber(attempt)}, 0, '-')
        end
        redis.call('ZREM', KEYS[6], old[i])
        redis.call('HDEL', KEYS[7], old[i])
    end
end
local function first_suspect()
    while true do
        local late = redis.call('ZRANGE', UNTIL, '-inf', at(now), 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
        if #late == 0 then return end
        local lease, ends = late[1], tonumber(late[2])
        local crashes, state, marks = status_of(lease)
        local events, attempts = events_of(lease)
        if not (events and marks and 2 * #marks == #events) then
            repair(lease)
        elseif #marks == 1 then
            local event, begun = event_of(events, attempts, 0), state == 'b' and 1 or 0
            event[3] = event[3] + begun
            return {lease = lease, ends = ends, event = event, crashes = crashes + begun}
        else
            for number = 0, #marks - 1 do
                if string.sub(marks, number + 1, number + 1) == '1' then
                    -- Slightly later each, so that they are redelivered in order.
                    write_one(new_name(), ends + number * 1e-6, event_of(events, attempts, number), 0, '-')
                end
            end
            drop(lease)
        end
    end
end
local events, attempts, is_again = {}, {}, false
local function add(event)
    events[#events + 1], events[#events + 2] = event[1], event[2]
    attempts[#attempts + 1] = event[3]
    is_again = is_again or event[3] ~= 1
end
local suspect = first_suspect()
if secs == '' then
    while suspect and #attempts < limit do
        add(suspect.event)
        drop(suspect.lease)
        suspect = first_suspect()
    end
end
-- A retry that was due before the suspect's lease ended is taken first.
local before = at(suspect and math.min(now, suspect.ends) or now)
local due = redis.call('ZRANGE', KEYS[4], '-inf', before, 'BYSCORE', 'LIMIT', 0, limit - #attempts)
for _, entry in ipairs(due) do
    local attempt, sent, member = string.match(entry, '^(%d+) (%S+) (.*)$')
    if attempt == '1' then
        redis.call('ZADD', KEYS[1], sent, member)
        if ARGV[5] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[5]) else redis.call('PERSIST', KEYS[1]) end
    else
        add({member, sent, tonumber(attempt)})
    end
    redis.call('ZREM', KEYS[4], entry)
end
local crashes = -1
if suspect and #attempts == 0 then
    drop(suspect.lease)
    add(suspect.event)
    crashes = suspect.crashes
    write_one(ticket, now + secs, suspect.event, crashes, 's')
elseif not suspect then
    expire()
    local size = 0
    while #attempts < limit and size < largest do
        local count = math.min(limit - #attempts, 100)
        local fresh = redis.call('ZPOPMIN', KEYS[1], count)
        for i = 1, #fresh, 2 do
            size = size + #fresh[i]
            events[#events + 1], events[#events + 2] = fresh[i], fresh[i + 1]
            attempts[#attempts + 1] = 1
        end
        if #fresh < 2 * count then break end
    end
end
if not is_again then attempts = 0 end
if secs ~= '' and crashes < 0 and #events > 0 then write(ticket, now + secs, events, attempts, 0, '-') end
local next = nil
for _, key in ipairs({UNTIL, KEYS[4], KEYS[6]}) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then next = math.min(next or math.huge, first[2]) end
end
return {events, attempts, crashes, next and string.format('%.6f', next - now) or '', repaired, lost}
"""
)

#: Finds channels from which `TAKE` would take something. Keys: K, K$until, K$scheduled, K$paused and K$leases of each
#: channel. Returns 1 or 0 for each.
FIND = Script("""#!lua flags=no-writes
local time = redis.call('TIME')
local now = string.format('%.17g', time[1] + time[2] / 1e6)
local found = {}
for i = 1, #KEYS, 5 do
    -- If a key cannot be read, `TAKE` reports the reason.
    local nothing = redis.pcall('EXISTS', KEYS[i]) == 0
    for _, j in ipairs({i + 1, i + 2, i + 4}) do
        nothing = nothing and redis.pcall('ZCOUNT', KEYS[j], '-inf', now) == 0
    end
    nothing = nothing or redis.pcall('EXISTS', KEYS[i + 3]) == 1
    found[#found + 1] = nothing and 0 or 1
end
return found
""")

#: Returns the state of channels. Keys: those of `counted_keys` of each channel. Returns for each the numbers of
#: waiting, scheduled and leased events; codes and numbers of dead letters; the age of the first waiting event in
#: seconds, or ''; whether the channel is paused; names and values of the totals.
COUNT = Script(f"""#!lua flags=no-writes
local UNTIL, BATCHES
{NOW}{RECORD}{COUNT_CODES}
local found = {{}}
for i = 1, #KEYS, 9 do
    BATCHES = KEYS[i + 3]
    local leased = redis.call('ZCARD', KEYS[i + 4])
    for _, ticket in ipairs(redis.call('ZRANGE', KEYS[i + 2], 0, -1)) do
        local _, _, marks = status_of(ticket)
        local _, held = string.gsub(marks or '', '1', '')
        leased = leased + held
    end
    local dead, totals = {{}}, {{}}
    for code, count in pairs(count_codes(KEYS[i + 5], KEYS[i + 6])) do
        if count > 0 then dead[#dead + 1], dead[#dead + 2] = code, count end
    end
    local fields = redis.call('HGETALL', KEYS[i + 8])
    for j = 1, #fields, 2 do
        local name = string.match(fields[j], '^t:(.*)$')
        if name then totals[#totals + 1], totals[#totals + 2] = name, fields[j + 1] end
    end
    local first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
    local oldest = first[2] and string.format('%.6f', math.max(0, now - first[2])) or ''
    found[#found + 1] = {{
        redis.call('ZCARD', KEYS[i]), redis.call('ZCARD', KEYS[i + 1]), leased, dead, oldest,
        redis.call('EXISTS', KEYS[i + 7]), totals,
    }}
end
return found
""")

#: Settles events. Keys: K$until, K$batches. Arguments: parts.
SETTLE = Script(f"""#!lua flags=allow-oom
local UNTIL, BATCHES = KEYS[1], KEYS[2]
{RECORD}{PARTS}{END}
each_part(1, end_all, end_some)
""")

#: Renews leases. Keys: K$until, K$batches. Arguments: seconds until the leases end, then parts.
RENEW = Script(f"""#!lua flags=allow-oom
local UNTIL, BATCHES = KEYS[1], KEYS[2]
{NOW}{RECORD}{PARTS}{MOVE}
local ends = now + ARGV[1]
local function renew(names)
    for _, name in ipairs(names) do redis.call('ZADD', UNTIL, 'XX', at(ends), name) end
end
each_part(2, function(ticket, count)
    local names, _, _, marks = {{ticket}}, status_of(ticket)
    for number = 0, count - 1 do
        local mark = marks and string.sub(marks, number + 1, number + 1)
        if mark == 'm' or not marks then names[#names + 1] = ticket .. '.' .. number end
    end
    renew(names)
end, function(ticket, numbers) renew(move(ticket, numbers, ends)) end)
""")

#: Records that the handler of a suspect starts. Keys: K$until, K$batches. Arguments: ticket and number of the event.
#: Returns whether the event is still leased.
BEGIN = Script(f"""#!lua flags=allow-oom
local UNTIL, BATCHES = KEYS[1], KEYS[2]
{NOW}{RECORD}{MOVE}
local ends = redis.call('ZSCORE', UNTIL, ARGV[1]) or now
local name = move(ARGV[1], {{tonumber(ARGV[2])}}, ends)[1]
local crashes, _, marks = status_of(name)
if not marks then return 0 end
write_status(name, crashes, 'b', marks)
return 1
""")

#: Ends a lease and schedules the event's redelivery. Keys: K$until, K$batches, K$scheduled. Arguments: seconds until
#: the redelivery, ticket and number of the event.
RETRY = Script(f"""#!lua flags=allow-oom
local UNTIL, BATCHES = KEYS[1], KEYS[2]
{NOW}{RECORD}{END}
for _, event in ipairs(end_some(ARGV[2], {{tonumber(ARGV[3])}})) do
    redis.call('ZADD', KEYS[3], at(now + ARGV[1]), event[3] + 1 .. ' ' .. event[2] .. ' ' .. event[1])
end
""")

#: Returns leased events to the front. Keys: K, K$until, K$batches, K$scheduled. Arguments: seconds to live of K or '',
#: then parts.
RETURN = Script(f"""#!lua flags=allow-oom
local UNTIL, BATCHES = KEYS[2], KEYS[3]
{RECORD}{PARTS}{END}
local function put_back(event)
    if event[3] > 1 then
        -- It is due since it was sent, so it is taken at once, in the order of sending.
        redis.call('ZADD', KEYS[4], event[2], event[3] .. ' ' .. event[2] .. ' ' .. event[1])
    else
        redis.call('ZADD', KEYS[1], event[2], event[1])
        if ARGV[1] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[1]) else redis.call('PERSIST', KEYS[1]) end
    end
end
each_part(2, function() end, function(ticket, numbers)
    local crashes, state = status_of(ticket)
    for _, event in ipairs(end_some(ticket, numbers)) do
        if state and state ~= '-' then
            -- A lease that ended when the event was sent: it is taken at once, and the suspect stays one.
            write_one(ticket .. '~', tonumber(event[2]), event, crashes, 's')
        else
            put_back(event)
        end
    end
end)
""")

#: Keeps dead letters and ends the leases of their events. A letter whose lease is gone is not kept: an earlier call,
#: whose reply was lost, has kept it, or the event belongs to another worker.
#:
#: Keys: K$dead, K$codes, K$until, K$batches. Arguments: how many letters the channel keeps, for how many seconds, the
#: number of new letters, each new letter with its event's id, its code, the ticket of its lease or '' and its number
#: there; then the parts of the leases that end. Returns how many letters were dropped.
BURY = Script(f"""#!lua flags=allow-oom
local DEAD, CODES, UNTIL, BATCHES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
{RECORD}{PARTS}{END}{KEEP_CODES}
local function is_held(ticket, number)
    local _, _, marks = status_of(ticket)
    return marks and string.sub(marks, number + 1, number + 1) == '1'
        or redis.call('HEXISTS', BATCHES, ticket .. '.' .. number) == 1
end
local limit, before, added, first = tonumber(ARGV[1]), redis.call('XLEN', DEAD), 0, 4 + 5 * ARGV[3]
if limit > 0 then
    for i = 4, first - 1, 5 do
        if ARGV[i + 3] == '' or is_held(ARGV[i + 3], ARGV[i + 4]) then
            redis.call('XADD', DEAD, '*', 'letter', ARGV[i], 'event', ARGV[i + 1], 'code', ARGV[i + 2])
            redis.call('HINCRBY', CODES, ARGV[i + 2], 1)
            added = added + 1
        end
    end
    if before + added > limit then
        note(redis.call('XRANGE', DEAD, '-', '+', 'COUNT', before + added - limit))
        redis.call('XTRIM', DEAD, 'MAXLEN', '=', limit)
    end
    local oldest = string.format('%d000-0', redis.call('TIME')[1] - ARGV[2])
    note(redis.call('XRANGE', DEAD, '-', '(' .. oldest))
    redis.call('XTRIM', DEAD, 'MINID', oldest)
    redis.call('EXPIRE', DEAD, ARGV[2])
    keep_codes()
end
each_part(first, end_all, end_some)
return before + added - redis.call('XLEN', DEAD)
""")

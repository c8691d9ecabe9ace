"""Lua fragments about leases: the record on the server, and the changes that several scripts make to it.

The events of one `TAKE` share a lease, which is named by the take's ticket. The record has a list of member and time of
sending of each event, and a list of their attempts, or 0 if each is at its first attempt. Both lists never change. The
status of a lease is `crashes state marks`:

- crashes: how many leases of a suspect ran out in succession after its handler had started.
- state: `-`, or `s` for a suspect, or `b` for a suspect whose handler has started.
- marks: for each event `1` if it is under this lease, `0` if not any more, `m` if it has moved to a lease of its own.
  The holder has renewed such an event alone; its lease is named by the ticket, a dot and the event's number.

When a lease has run out, its events move to leases of their own, with names that no holder knows. Then they are taken
alone, as suspects. The calls of a stale lease holder change nothing, because its ticket no longer exists. An event that
was delivered before never returns to K, where it would expire and lose its attempts.
"""

#: Reads and writes the record of leases. `UNTIL` and `BATCHES` are variables with its two keys.
RECORD = """
local function at(time) return string.format('%.17g', time) end
local function status_of(ticket)
    local found = redis.call('HGET', BATCHES, ticket .. ':')
    if found then return string.match(found, '^(%d+) ([-sb]) ([01m]+)$') end
end
local function events_of(ticket)
    local found = redis.call('HGET', BATCHES, ticket)
    if not found then return end
    local is_whole, batch = pcall(cmsgpack.unpack, found)
    if is_whole and type(batch) == 'table' and type(batch[1]) == 'table' then return batch[1], batch[2] end
end
local function event_of(events, attempts, number)
    return {events[2 * number + 1], events[2 * number + 2], attempts ~= 0 and attempts[number + 1] or 1}
end
local function write_status(ticket, crashes, state, marks)
    redis.call('HSET', BATCHES, ticket .. ':', crashes .. ' ' .. state .. ' ' .. marks)
end
local function write(ticket, ends, events, attempts, crashes, state)
    redis.call('ZADD', UNTIL, at(ends), ticket)
    redis.call('HSET', BATCHES, ticket, cmsgpack.pack({events, attempts}),
        ticket .. ':', crashes .. ' ' .. state .. ' ' .. string.rep('1', #events / 2))
end
local function write_one(ticket, ends, event, crashes, state)
    write(ticket, ends, {event[1], event[2]}, {event[3]}, crashes, state)
end
local function drop(ticket)
    redis.call('HDEL', BATCHES, ticket, ticket .. ':')
    return redis.call('ZREM', UNTIL, ticket)
end
"""
#: Reads the parts of leases from ARGV, beginning at `first`: the ticket, the number of events, and the events' numbers.
#: A negative number means the whole lease, which had so many events; no event numbers follow.
PARTS = """
local function each_part(first, all, some)
    local i = first
    while i <= #ARGV do
        local ticket, count = ARGV[i], tonumber(ARGV[i + 1])
        i = i + 2
        if count < 0 then
            all(ticket, -count)
        else
            local numbers = {}
            for j = 1, count do numbers[j] = tonumber(ARGV[i + j - 1]) end
            i = i + count
            some(ticket, numbers)
        end
    end
end
"""
#: Ends leases. `end_some` returns the events that were still leased.
END = """
local function end_all(ticket, count)
    local _, _, marks = status_of(ticket)
    if not marks or string.find(marks, 'm', 1, true) then
        for number = 0, count - 1 do drop(ticket .. '.' .. number) end
    end
    drop(ticket)
end
local function end_some(ticket, numbers)
    local crashes, state, marks = status_of(ticket)
    local events, attempts = nil, nil
    if marks then events, attempts = events_of(ticket) end
    local ended = {}
    for _, number in ipairs(numbers) do
        if events and string.sub(marks, number + 1, number + 1) == '1' then
            ended[#ended + 1] = event_of(events, attempts, number)
        else
            local moved = ticket .. '.' .. number
            local its_events, its_attempts = events_of(moved)
            if its_events then
                ended[#ended + 1] = event_of(its_events, its_attempts, 0)
                drop(moved)
            end
        end
        if marks then marks = string.sub(marks, 1, number) .. '0' .. string.sub(marks, number + 2) end
    end
    if marks and string.find(marks, '[1m]') then
        write_status(ticket, crashes, state, marks)
    elseif marks then
        drop(ticket)
    end
    return ended
end
"""
#: Moves some events of a lease to leases of their own and returns their names. A lease of one event stays as it is.
MOVE = """
local function move(ticket, numbers, ends)
    local crashes, state, marks = status_of(ticket)
    if marks and #marks == 1 then return {ticket} end
    local names, events, attempts = {}, nil, nil
    if marks then events, attempts = events_of(ticket) end
    for _, number in ipairs(numbers) do
        local name = ticket .. '.' .. number
        names[#names + 1] = name
        if events and string.sub(marks, number + 1, number + 1) == '1' then
            write_one(name, ends, event_of(events, attempts, number), 0, '-')
            marks = string.sub(marks, 1, number) .. 'm' .. string.sub(marks, number + 2)
        end
    end
    if events then write_status(ticket, crashes, state, marks) end
    return names
end
"""

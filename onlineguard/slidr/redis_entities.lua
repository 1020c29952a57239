-- Counters of one kind of entities (`counters`) for a batch of clicks, in order.
-- KEYS: each entity's rings; for ips the rings, the set of users and the set of sessions of each.
-- ARGV: events, TTL in ms, 1 for ips and 0 for others, FIRST, CAP.
-- An event is which entity (from 0), its time as shortest bucket and milliseconds within, and 1 if it is counted; for
-- ips also 1 or 0 for whether there is a user, its 8 bytes, and the same for the session.
-- Returns for each event four counts and the milliseconds since the last click; for ips six numbers more.
--
-- A row is the rings' counts, turned so that bucket b is at b modulo the ring's length; for ips also the 24 largest 1 h
-- numbers of users and of sessions; and the head. The rings' sums are kept while the batch is worked on.
local ttl, is_ip, first, cap = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5])
local lengths, slots, starts = {1, 6, 30, 360}, {6, 5, 12, 24}, {1, 7, 12, 24}
local peaks = {48, 72}
local n = is_ip and 95 or 47
local row_format = '<' .. string.rep('I', n + 2)
local event_format = is_ip and '<IIHBBc8Bc8' or '<IIHB'
local event_bytes = struct.size(event_format)
local floor, min, max = math.floor, math.min, math.max

local function load(key)
  local packed = redis.call('GET', key)
  local row = {}
  if packed then
    row = {struct.unpack(row_format, packed)}
  else
    for i = 1, n + 2 do
      row[i] = 0
    end
  end
  local sums = {0, 0, 0, 0}
  for k = 1, 4 do
    for i = starts[k], starts[k] + slots[k] - 1 do
      sums[k] = sums[k] + row[i]
    end
  end
  return {row = row, sums = sums, head = row[n + 1], head_ms = row[n + 2], changed = false}
end

-- The sum of a ring whose windows end at bucket `to`; where the click is counted, the ring is turned there.
local function turned(row, start, size, sum, from, to, counted)
  for i = 1, min(to - from, size) do
    local at = start + (from + i) % size
    sum = sum - row[at]
    if counted then
      row[at] = 0
    end
  end
  return sum
end

-- Distinct members in 1 h and 24 h, with this one where it is counted.
local function distinct(key, member, counted, time, to)
  if member and counted then
    redis.call('ZADD', key, 'GT', floor(time / 30), member)
    redis.call('ZREMRANGEBYRANK', key, 0, -cap - 1)
  end
  return redis.call('ZCOUNT', key, floor(to / 30) - 11, '+inf'),
    redis.call('ZCOUNT', key, 12 * (floor(to / 360) - 23), '+inf')
end

-- The largest of the 24 hours' numbers, with this one where the click is counted.
local function largest(row, start, number, hours, to, counted)
  local passed = floor(to / 360) - hours
  turned(row, start, 24, 0, hours, hours + passed, counted)
  if counted then
    local at = start + floor(to / 360) % 24
    row[at] = max(row[at], number)
    passed = 0
  end
  local most = 0
  for i = 0, 23 do
    if (floor(to / 360) - i) % 24 >= passed then
      most = max(most, row[start + i])
    end
  end
  return most
end

local entities, answers = {}, {}
local width = is_ip and 3 or 1
for at = 1, #ARGV[1], event_bytes do
  local which, time, ms, counted, has_user, user, has_session, session = struct.unpack(event_format, ARGV[1], at)
  local key = width * which + 1
  local entity = entities[key]
  if not entity then
    entity = load(KEYS[key])
    entities[key] = entity
  end
  counted = counted == 1
  local row, head, to = entity.row, entity.head, max(entity.head, time)
  local counts = {}
  for k = 1, 4 do
    local length, size = lengths[k], slots[k]
    local from, upto, own = floor(head / length), floor(to / length), floor(time / length)
    local sum = turned(row, starts[k], size, entity.sums[k], from, upto, counted)
    if counted then
      if upto - own < size then
        local place = starts[k] + own % size
        row[place] = row[place] + 1
        sum = sum + 1
      end
      entity.sums[k] = sum
    end
    counts[k] = sum
  end
  local since = first
  if floor(to / 360) - floor(head / 360) < 24 then
    since = max(0, min(first, (time - head) * 10000 + ms - entity.head_ms))
  end
  answers[#answers + 1] = struct.pack('<IIIII', counts[1], counts[2], counts[3], counts[4], since)
  if is_ip then
    local users_1h, users_24h = distinct(KEYS[key + 1], has_user == 1 and user, counted, time, to)
    local sessions_1h, sessions_24h = distinct(KEYS[key + 2], has_session == 1 and session, counted, time, to)
    local hours = floor(head / 360)
    local users_largest = largest(row, peaks[1], users_1h, hours, to, counted)
    local sessions_largest = largest(row, peaks[2], sessions_1h, hours, to, counted)
    answers[#answers + 1] = struct.pack(
      '<IIIIII', users_1h, users_24h, sessions_1h, sessions_24h, users_largest, sessions_largest)
  end
  if counted then
    if time > head or (time == head and ms > entity.head_ms) then
      entity.head, entity.head_ms = time, ms
    end
    entity.changed = true
  end
end
for key, entity in pairs(entities) do
  if entity.changed then
    entity.row[n + 1], entity.row[n + 2] = entity.head, entity.head_ms
    redis.call('SET', KEYS[key], struct.pack(row_format, unpack(entity.row, 1, n + 2)), 'PX', ttl)
    for other = key + 1, key + width - 1 do
      redis.call('PEXPIRE', KEYS[other], ttl)
    end
  end
end
return table.concat(answers)

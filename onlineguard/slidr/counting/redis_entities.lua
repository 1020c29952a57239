-- Counters of one kind of entities (`counters`) for a batch of clicks, in order.
-- KEYS: each entity's rings; for ips the rings, the set of users and the set of sessions of each.
-- ARGV: events, TTL in ms, 1 for ips and 0 for others, FIRST, CAP; PAUSE_MS, PAUSES, OCTAVE, PRIOR_PAUSES, PRIOR_SPREAD;
-- the TTL of the sets.
-- An event is which entity (from 0), its time as shortest bucket and milliseconds within, and 1 if it is counted; for
-- ips also 1 or 0 for whether there is a user, its 8 bytes, and the same for the session.
-- Returns for each event four counts, the milliseconds since the last click, the spread of pauses, and the count of a
-- week; for ips six numbers more.
--
-- A row is the rings' counts, turned so that bucket b is at b modulo the ring's length; for ips also the 24 largest 1 h
-- numbers of users and of sessions; the head, and the milliseconds within; the sums of the five rings; the number of
-- pauses, and the sums of their logarithms and of the squares of these; for ips the largest of those numbers. What can
-- be kept is not added up again: Redis's own commands take a fifth of this script. A row of another length is of an
-- earlier version, and reads like one never seen.
local ttl, is_ip, first, cap = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5])
local pause_ms, most, octave = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local prior, prior_spread = tonumber(ARGV[9]), tonumber(ARGV[10])
local lengths, slots, starts = {1, 6, 30, 360, 8640}, {6, 5, 12, 24, 7}, {1, 7, 12, 24, 48}
local n = is_ip and 102 or 54
local at_head, at_ms, at_sums, at_pauses = n + 1, n + 2, n + 2, n + 8
local numbers = is_ip and n + 12 or n + 10
local row_format = '<' .. string.rep('I', numbers)
local event_format = is_ip and '<IIHBBc8Bc8' or '<IIHB'
local event_bytes = struct.size(event_format)
local floor, min, max, frexp, call, pack = math.floor, math.min, math.max, math.frexp, redis.call, struct.pack

local function load(key)
  local packed = call('GET', key)
  if packed and #packed == 4 * numbers then
    return {struct.unpack(row_format, packed)}
  end
  local row = {}
  for i = 1, numbers do
    row[i] = 0
  end
  return row
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
  if member and counted and call('ZADD', key, 'GT', floor(time / 30), member) == 1 then
    call('ZREMRANGEBYRANK', key, 0, -cap - 1)
  end
  return call('ZCOUNT', key, floor(to / 30) - 11, '+inf'), call('ZCOUNT', key, 12 * (floor(to / 360) - 23), '+inf')
end

-- The largest of the 24 hours' numbers that begin at `start`, with this one where the click is counted.
local function largest(row, start, at_most, number, hours, to, counted)
  local upto, most = floor(to / 360), row[at_most]
  local passed = upto - hours
  if passed > 0 then
    turned(row, start, 24, 0, hours, upto, counted)
    most = 0
    for i = passed, 23 do
      most = max(most, row[start + (hours - i + passed) % 24])
    end
  end
  if counted then
    local at = start + upto % 24
    row[at] = max(row[at], number)
    most = max(most, number)
    row[at_most] = most
  end
  return most
end

local rows, changed, answers = {}, {}, {}
local width = is_ip and 3 or 1
for at = 1, #ARGV[1], event_bytes do
  local which, time, ms, counted, has_user, user, has_session, session = struct.unpack(event_format, ARGV[1], at)
  local key = width * which + 1
  local row = rows[key]
  if not row then
    row = load(KEYS[key])
    rows[key] = row
  end
  counted = counted == 1
  local head, head_ms = row[at_head], row[at_ms]
  local to = max(head, time)
  local counts = {}
  for k = 1, 5 do
    local length, size, start, sum = lengths[k], slots[k], starts[k], row[at_sums + k]
    local upto = floor(to / length)
    if to ~= head then
      local from = floor(head / length)
      if from ~= upto then
        sum = turned(row, start, size, sum, from, upto, counted)
      end
    end
    if counted then
      local own = floor(time / length)
      if upto - own < size then
        local place = start + own % size
        row[place] = row[place] + 1
        sum = sum + 1
      end
      row[at_sums + k] = sum
    end
    counts[k] = sum
  end
  local since, pauses, total, squares = first, 0, 0, 0
  if floor(to / 360) - floor(head / 360) < 24 then
    local gap = (time - head) * 10000 + ms - head_ms
    since = max(0, min(first, gap))
    pauses, total, squares = row[at_pauses], row[at_pauses + 1], row[at_pauses + 2]
    if counted and gap >= 0 and gap < pause_ms then
      local fraction, exponent = frexp(gap + 1)
      local log = octave * (exponent - 1) + floor((2 * fraction - 1) * octave)
      if pauses < most then
        pauses = pauses + 1
      else
        total, squares = total - floor(total / most), squares - floor(squares / most)
      end
      total, squares = total + log, squares + log * log
    end
  end
  if counted then
    row[at_pauses], row[at_pauses + 1], row[at_pauses + 2] = pauses, total, squares
  end
  local about = max(squares - floor(total * total / max(pauses, 1)), 0)
  local spread = floor((about + prior * prior_spread) / (pauses + prior))
  answers[#answers + 1] = pack('<IIIIIII', counts[1], counts[2], counts[3], counts[4], since, spread, counts[5])
  if is_ip then
    local users_1h, users_24h = distinct(KEYS[key + 1], has_user == 1 and user, counted, time, to)
    local sessions_1h, sessions_24h = distinct(KEYS[key + 2], has_session == 1 and session, counted, time, to)
    local hours = floor(head / 360)
    local users_largest = largest(row, 55, numbers - 1, users_1h, hours, to, counted)
    local sessions_largest = largest(row, 79, numbers, sessions_1h, hours, to, counted)
    answers[#answers + 1] = pack(
      '<IIIIII', users_1h, users_24h, sessions_1h, sessions_24h, users_largest, sessions_largest)
  end
  if counted then
    if time > head or (time == head and ms > head_ms) then
      row[at_head], row[at_ms] = time, ms
    end
    changed[key] = row
  end
end
for key, row in pairs(changed) do
  call('SET', KEYS[key], pack(row_format, unpack(row, 1, numbers)), 'PX', ttl)
  for other = key + 1, key + width - 1 do
    call('PEXPIRE', KEYS[other], ARGV[11])
  end
end
return table.concat(answers)

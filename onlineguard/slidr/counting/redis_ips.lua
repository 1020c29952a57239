-- Users and sessions of an ip.
-- The row of an ip has besides, first of users and then of sessions: rings by their newest click, in 5 min and in hours,
-- and one of the 24 hours' largest numbers; the serial number of the batch that the row is from, the sums of the rings,
-- and the largest of the largest numbers. A user or session at an ip has a key of its own, with its newest click there, in
-- 5 min, and the serial number of the ip's row: where that is another one, it was of a row that Redis has dropped since.
local newest, births = {}, {} -- of users and sessions that moved, by the number of the key

-- The numbers that a click sees of the users (k = 0) or sessions (k = 1) of its ip: in 1 h, in 24 h, and the largest.
-- before, five: the 5 min of the head, and those that the windows end with; from, to: the newest click, in 5 min, of the
-- click's own user or session, before the click and with it.
local function distinct(slots, state, k, before, five, from, to, is_counted)
  local start, hours, largest = 55 + 12 * k, 79 + 24 * k, 127 + 24 * k
  local hour = (five - five % 12) / 12
  local in_hour, in_day, most = state[12 + k], state[14 + k], state[16 + k]
  if five > before then
    in_hour = turned(slots, start, 12, in_hour, before, five)
    local hour_before = (before - before % 12) / 12
    if hour > hour_before then
      in_day = turned(slots, hours, 24, in_day, hour_before, hour)
      turned(slots, largest, 24, most, hour_before, hour)
      most = most > 0 and max(unpack(slots, largest, largest + 23)) or 0
    end
  end
  if to > from then
    in_hour = added(slots, start, 12, in_hour, five, from, -1)
    in_hour = added(slots, start, 12, in_hour, five, to, 1)
    in_day = added(slots, hours, 24, in_day, hour, (from - from % 12) / 12, -1)
    in_day = added(slots, hours, 24, in_day, hour, (to - to % 12) / 12, 1)
  end
  local number = in_hour < CAP and in_hour or CAP
  if is_counted then
    local at = largest + hour % 24
    if number > slots[at] then
      slots[at], most = number, number > most and number or most
    end
  end
  state[12 + k], state[14 + k], state[16 + k] = in_hour, in_day, most
  return number, in_day < CAP and in_day or CAP, most
end

-- When a user or session clicked last at an ip, before it does `now`, of which note is taken.
local function last(key, birth, now)
  if key == 0 then
    return now
  end
  local before = newest[key]
  if not before then
    local value, of = values[key] or values[keys[key]], nil -- by its name if `old` has made it
    if value then
      before, of = read('<II', value)
    end
    before = of == birth and before or 0
  end
  if now > before then
    newest[key], births[key] = now, birth
  end
  return before
end

-- Returns the count of a week and the six numbers of users and sessions that a click sees of its ip.
local function members(slots, state, head, time, is_counted, user, session)
  local to = max(head, time)
  local before, five, now = floor(head / 30), floor(to / 30), buckets[3]
  local user_last, session_last = now, now
  if is_counted then
    user_last, session_last = last(user, state[11], now), last(session, state[11], now)
  end
  local users_1h, users_24h, most_users = distinct(slots, state, 0, before, five, user_last, now, is_counted)
  local sessions_1h, sessions_24h, most_sessions = distinct(slots, state, 1, before, five, session_last, now, is_counted)
  return pack('<IIIIIII', state[10], users_1h, users_24h, sessions_1h, sessions_24h, most_users, most_sessions)
end

local function store_members()
  for key, birth in pairs(births) do
    redis.call('SET', keys[key], pack('<II', newest[key], birth), 'PX', ttl)
  end
end

-- All of a batch of clicks in one call, for a single Redis: `clock`, `ids` and `entities` are the scripts of these names.
-- KEYS: the clock; the names of all other keys are made here, for they have the era of the clock in them.
-- ARGV: the clicks' times in ms; for each click 82 bytes; how names of keys begin; GROUPS; AHEAD_MS, BEHIND_MS, STEP_MS;
-- HOUR_MS, DUPLICATE_HOURS; BUCKET_MS, MOVED_ON; TTL in ms; FIRST, CAP.
-- The bytes of a click are hashes of 16 bytes of its id, user, session, ip and prefix, and 1 or 0 for whether there is a
-- user, and whether there is a session.
-- Returns for each click the numbers of its user, session, ip and prefix that `entities` gives, then the six more of its
-- ip; where there is no user or session, those of one never seen.
local members, prefix, groups = ARGV[2], ARGV[3], tonumber(ARGV[4])
local hour_ms, bucket_ms, moved_on = tonumber(ARGV[8]), tonumber(ARGV[10]), tonumber(ARGV[11])
local ttl, first, cap = ARGV[12], ARGV[13], ARGV[14]
local n = #ARGV[1] / 8
local kinds = {'user', 'session', 'ip', 'prefix'}

local function key(kind, era, hash)
  return prefix .. kind .. string.byte(hash, 2) % groups .. '}:' .. era .. ':' .. hash
end

local times = clock(KEYS, {ARGV[1], ARGV[5], ARGV[6], ARGV[7]})
local ids_keys, hours = {}, {}
for i = 1, n do
  local now, era = struct.unpack('<dd', times, 32 * i - 15)
  ids_keys[i] = key('id', era, string.sub(members, 82 * i - 81, 82 * i - 66))
  hours[i] = struct.pack('<d', math.floor(now / hour_ms))
end
local seen = ids(ids_keys, {table.concat(hours), ARGV[9], ttl})

local keys, events, numbers = {{}, {}, {}, {}}, {{}, {}, {}, {}}, {{}, {}, {}, {}}
for i = 1, n do
  local time, counted, _, era = struct.unpack('<dddd', times, 32 * i - 31)
  local bucket, ms = math.floor(time / bucket_ms) + moved_on, time % bucket_ms
  if string.byte(seen, i) == 49 then
    counted = 0
  end
  local at = 82 * i - 81
  local has_user, has_session = string.byte(members, at + 80, at + 81)
  for k = 1, 4 do
    if k > 2 or k == 1 and has_user == 1 or k == 2 and has_session == 1 then
      local name = key(kinds[k], era, string.sub(members, at + 16 * k, at + 16 * k + 15))
      local number = numbers[k][name]
      if not number then
        number = #keys[k] / (k == 3 and 3 or 1)
        numbers[k][name] = number
        table.insert(keys[k], name)
        if k == 3 then
          table.insert(keys[k], name .. ':u')
          table.insert(keys[k], name .. ':s')
        end
      end
      local event = struct.pack('<IIHB', number, bucket, ms, counted)
      if k == 3 then
        event = event .. string.char(has_user) .. string.sub(members, at + 16, at + 23)
          .. string.char(has_session) .. string.sub(members, at + 32, at + 39)
      end
      table.insert(events[k], event)
    end
  end
end
local answers = {}
for k = 1, 4 do
  answers[k] = entities(keys[k], {table.concat(events[k]), ttl, k == 3 and '1' or '0', first, cap})
end
local unseen = struct.pack('<IIIII', 0, 0, 0, 0, tonumber(first))
local rows, at_user, at_session = {}, 1, 1
for i = 1, n do
  local has_user, has_session = string.byte(members, 82 * i - 1, 82 * i)
  local user, session = unseen, unseen
  if has_user == 1 then
    user, at_user = string.sub(answers[1], at_user, at_user + 19), at_user + 20
  end
  if has_session == 1 then
    session, at_session = string.sub(answers[2], at_session, at_session + 19), at_session + 20
  end
  local ip = 44 * i - 43
  rows[i] = user .. session .. string.sub(answers[3], ip, ip + 19) .. string.sub(answers[4], 20 * i - 19, 20 * i)
    .. string.sub(answers[3], ip + 20, ip + 43)
end
return table.concat(rows)

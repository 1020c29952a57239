-- All of a batch of clicks in one call, for a single Redis: `clock`, `ids`, `entities` and `ads` are the scripts of these
-- names.
-- KEYS: the clock; the names of all other keys are made here, for they have the era of the clock in them.
-- ARGV: the clicks' times in ms; for each click 99 bytes; how names of keys begin; GROUPS; AHEAD_MS, BEHIND_MS, STEP_MS;
-- HOUR_MS, DUPLICATE_HOURS; BUCKET_MS, MOVED_ON; TTL in ms, and that of ips; FIRST, CAP; and
-- what `entities` takes after it.
-- The bytes of a click are hashes of 16 bytes of its id, user, session, ip, prefix and ad, and 1 or 0 for whether there
-- is a user, whether there is a session, and whether it is signed in.
-- Returns for each click the first six numbers of its user, session, ip and prefix that `entities` gives; then the
-- count of a week of its ip, and the six more of its ip; then the three of its ad; where there is no user or session,
-- those of one never seen.
local members, prefix, groups = ARGV[2], ARGV[3], tonumber(ARGV[4])
local hour_ms, bucket_ms, moved_on = tonumber(ARGV[8]), tonumber(ARGV[10]), tonumber(ARGV[11])
local ttl, longer, first, prior_spread = ARGV[12], ARGV[13], ARGV[14], ARGV[20]
local hour_buckets = hour_ms / bucket_ms
local n = #ARGV[1] / 8
local kinds = {'user', 'session', 'ip', 'prefix'}

local function key(kind, era, hash)
  return prefix .. kind .. string.byte(hash, 2) % groups .. '}:' .. era .. ':' .. hash
end

local times = clock(KEYS, {ARGV[1], ARGV[5], ARGV[6], ARGV[7]})
local ids_keys, hours = {}, {}
for i = 1, n do
  local now, era = struct.unpack('<dd', times, 32 * i - 15)
  ids_keys[i] = key('id', era, string.sub(members, 99 * i - 98, 99 * i - 83))
  hours[i] = struct.pack('<d', math.floor(now / hour_ms))
end
local seen = ids(ids_keys, {table.concat(hours), ARGV[9], ttl})

local keys, events, numbers = {{}, {}, {}, {}}, {{}, {}, {}, {}}, {{}, {}, {}, {}}
local ads_keys, ads_events, ads_numbers = {}, {}, {}
for i = 1, n do
  local time, counted, _, era = struct.unpack('<dddd', times, 32 * i - 31)
  local bucket, ms = math.floor(time / bucket_ms) + moved_on, time % bucket_ms
  if string.byte(seen, i) == 49 then
    counted = 0
  end
  local at = 99 * i - 98
  local has_user, has_session, signed_in = string.byte(members, at + 96, at + 98)
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
  local ad = key('ad', era, string.sub(members, at + 80, at + 95))
  if not ads_numbers[ad] then
    ads_numbers[ad] = #ads_keys
    table.insert(ads_keys, ad)
  end
  ads_events[i] = struct.pack('<IIBBB', ads_numbers[ad], math.floor(bucket / hour_buckets), counted, signed_in, 1 - has_user)
end
local of_ads = ads(ads_keys, {table.concat(ads_events), ttl})
local answers = {}
for k = 1, 4 do
  local arguments = {table.concat(events[k]), k == 3 and longer or ttl, k == 3 and '1' or '0', unpack(ARGV, 14, 20)}
  table.insert(arguments, ttl)
  answers[k] = entities(keys[k], arguments)
end
local unseen = struct.pack('<IIIIII', 0, 0, 0, 0, tonumber(first), tonumber(prior_spread))
local rows, at_user, at_session = {}, 1, 1
for i = 1, n do
  local has_user, has_session = string.byte(members, 99 * i - 2, 99 * i - 1)
  local user, session = unseen, unseen
  if has_user == 1 then
    user, at_user = string.sub(answers[1], at_user, at_user + 23), at_user + 28
  end
  if has_session == 1 then
    session, at_session = string.sub(answers[2], at_session, at_session + 23), at_session + 28
  end
  local ip, prefix_at = 52 * i - 51, 28 * i - 27
  rows[i] = user .. session .. string.sub(answers[3], ip, ip + 23) .. string.sub(answers[4], prefix_at, prefix_at + 23)
    .. string.sub(answers[3], ip + 24, ip + 51) .. string.sub(of_ads, 12 * i - 11, 12 * i)
end
return table.concat(rows)

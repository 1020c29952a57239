-- The stream's clock (`counters.Clock`) for a batch of clicks.
-- KEYS: the clock. ARGV: their times in ms, AHEAD_MS, BEHIND_MS, STEP_MS.
-- Returns for each click: when it counts, 1 if it is counted, what the clock reads, and its era. All are doubles.
local ahead, behind, step = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now, run, era = nil, 0, 0
local state = redis.call('GET', KEYS[1])
if state then
  now, run, era = struct.unpack('<ddd', state)
end
local answers = {}
for at = 1, #ARGV[1], 8 do
  local t = struct.unpack('<d', ARGV[1], at)
  now = now or t
  local side = 0
  if t > now + ahead then
    side = 1
  elseif t <= now - behind then
    side = -1
  end
  run = run * side > 0 and run + side or side
  local time, counted = t, 1
  if side == 0 then
    now = math.max(now, t)
  elseif math.abs(t - now) <= step * 2 ^ math.min(math.abs(run), 40) then
    now, run = t, 0
    if side < 0 then
      era = era + 1
    end
  else
    time, counted = now, side > 0 and 1 or 0
  end
  answers[#answers + 1] = struct.pack('<dddd', time, counted, now, era)
end
redis.call('SET', KEYS[1], struct.pack('<ddd', now, run, era))
return table.concat(answers)

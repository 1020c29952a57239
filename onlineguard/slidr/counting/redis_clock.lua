-- The stream's clock (`counters.Clock`) over a batch of clicks.
-- state: as it is kept, or false; times: the clicks' times in ms, as doubles.
-- Returns the state after them; for each click the hour that the clock reads; the era; what is made of the clicks, which
-- is '' if each counts at its own time in this era, and else for each when it counts, 1 if it is counted, and its era; and
-- the serial number of the batch.
local function clock(state, times)
  local now, run, era, serial = nil, 0, 0, 0
  if state and #state == 24 then -- of version 1, which cannot read what is kept now, and so counts no more
    now, run, era = struct.unpack('<ddd', state)
  elseif state then
    now, run, era, serial = struct.unpack('<diII', state)
  end
  local hours, readings, usual = {}, {}, true
  for i = 1, #times / 8 do
    local t = struct.unpack('<d', times, 8 * i - 7)
    now = now or t
    local side = 0
    if t > now + AHEAD_MS then
      side = 1
    elseif t <= now - BEHIND_MS then
      side = -1
    end
    run = run * side > 0 and run + side or side
    local time, counted = t, 1
    if side == 0 then
      now = math.max(now, t)
    else
      usual = false
      if math.abs(t - now) <= STEP_MS * 2 ^ math.min(math.abs(run), 40) then
        now, run = t, 0
        if side < 0 then
          era = era + 1
        end
      else
        time, counted = now, side > 0 and 1 or 0
      end
    end
    hours[i] = math.floor(now / HOUR_MS)
    readings[i] = {time, counted, era}
  end
  if usual then
    readings = {}
  end
  for i, reading in ipairs(readings) do
    readings[i] = struct.pack('<dBI', unpack(reading))
  end
  serial = (serial + 1) % 2 ^ 32
  return struct.pack('<diII', now, run, era, serial), hours, era, table.concat(readings), serial
end

-- Visitors of ads (`counters`) for a batch of clicks, in order.
-- KEYS: each ad's rings. ARGV: events, TTL in ms.
-- An event is which ad (from 0), the hour of its time, and 1 or 0 for whether it is counted, is signed in, and is of an
-- unknown user.
-- Returns for each event the three counts of the 24 hours.
--
-- A row is the three rings' counts, turned so that an hour is at itself modulo 24; the sums of the rings; the hour of the
-- head. A row of another length is of another version, and reads like one never seen.
local at_sums, at_head = 72, 76
local event_format, row_format = '<IIBBB', '<' .. string.rep('I', at_head)
local rows, changed, answers = {}, {}, {}
for at = 1, #ARGV[1], 11 do
  local which, hour, counted, signed, unknown = struct.unpack(event_format, ARGV[1], at)
  local key = which + 1
  local row = rows[key]
  if not row then
    local packed = redis.call('GET', KEYS[key])
    if packed and #packed == 4 * at_head then
      row = {struct.unpack(row_format, packed)}
    else
      row = {}
      for i = 1, at_head do
        row[i] = 0
      end
    end
    rows[key] = row
  end
  local head, added = row[at_head], {counted, counted * signed, counted * unknown}
  local to = math.max(head, hour)
  local counts = {}
  for k = 1, 3 do
    local start, sum = 24 * k - 23, row[at_sums + k]
    for i = 1, math.min(to - head, 24) do
      local slot = start + (head + i) % 24
      sum = sum - row[slot]
      if counted == 1 then
        row[slot] = 0
      end
    end
    if counted == 1 then
      if to - hour < 24 then
        local slot = start + hour % 24
        row[slot], sum = row[slot] + added[k], sum + added[k]
      end
      row[at_sums + k] = sum
    end
    counts[k] = sum
  end
  answers[#answers + 1] = struct.pack('<III', counts[1], counts[2], counts[3])
  if counted == 1 then
    row[at_head], changed[key] = to, row
  end
end
for key, row in pairs(changed) do
  redis.call('SET', KEYS[key], struct.pack(row_format, unpack(row, 1, at_head)), 'PX', ARGV[2])
end
return table.concat(answers)

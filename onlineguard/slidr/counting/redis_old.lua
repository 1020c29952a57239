-- The rings and the state of a row as version 1 kept it: all numbers took four bytes, entities of all kinds had a week, and
-- the users and sessions of an ip were in two sorted sets, which are cut into keys here. Nil if it is of another length.
local function old(key, bytes, values, serial, ttl)
  if #bytes ~= 256 and #bytes ~= 456 then
    return nil
  end
  local row = {struct.unpack('<' .. string.rep('I', #bytes / 4), bytes)}
  if #bytes == 256 then
    return {unpack(row, 1, 47)}, {row[55], row[56], row[62], row[63], row[64], unpack(row, 57, 60)}
  end
  local slots, state = {unpack(row, 1, 54)}, {row[103], row[104], row[110], row[111], row[112], unpack(row, 105, 109)}
  for i = 55, 126 do
    slots[i] = 0
  end
  for i = 127, 174 do
    slots[i] = row[i - 72]
  end
  local five = math.floor(row[103] / 30)
  local hour = math.floor(five / 12)
  local counts = {0, 0, 0, 0}
  for k = 0, 1 do
    local name = key .. (k == 0 and ':u' or ':s')
    local members = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
    for i = 1, #members, 2 do
      local newest = tonumber(members[i + 1])
      local value = struct.pack('<II', newest, serial)
      redis.call('SET', name .. members[i], value, 'PX', ttl)
      values[name .. members[i]] = value
      local h = math.floor(newest / 12)
      if five - newest < 12 then
        local slot = 55 + 12 * k + newest % 12
        slots[slot], counts[1 + k] = slots[slot] + 1, counts[1 + k] + 1
      end
      if hour - h < 24 then
        local slot = 79 + 24 * k + h % 24
        slots[slot], counts[3 + k] = slots[slot] + 1, counts[3 + k] + 1
      end
    end
    redis.call('DEL', name)
  end
  for i, value in ipairs({serial, counts[1], counts[2], counts[3], counts[4], row[113], row[114]}) do
    state[10 + i] = value
  end
  return slots, state
end

-- All of a batch of clicks in one call, for a single Redis.
-- KEYS: the clock; the clicks' ids; then those of entities.
-- ARGV: the clicks' times in ms; what the clock is thought to make of them, and the era (see `clock`); the clicks (see
-- `count`); TTL in ms, and that of ips.
-- Returns the numbers of all clicks; or where the clock makes something else of them, on which keys and clicks depend,
-- that and the era, and counts nothing.
keys, values, ttl, longer = KEYS, redis.call('MGET', unpack(KEYS)), ARGV[5], ARGV[6]
local state, hours, era, readings, batch = clock(values[1], ARGV[1])
if readings ~= ARGV[2] or era ~= tonumber(ARGV[3]) then
  return {readings, era}
end
redis.call('SET', KEYS[1], state)
local counted = ids(KEYS, values, 2, hours, ttl)
if readings ~= '' then
  local both = {}
  for i = 1, #hours do
    both[i] = string.char(string.byte(counted, i) * string.byte(readings, 13 * i - 4))
  end
  counted = table.concat(both)
end
serial = batch
return count(ARGV[4], counted, struct.pack('<IIIIII', 0, 0, 0, 0, FIRST, PRIOR_SPREAD))

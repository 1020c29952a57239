-- Which of a batch of clicks are duplicates; the others are remembered.
-- KEYS: one for each click's id. ARGV: the hours that the stream's clock reads, as doubles; DUPLICATE_HOURS; TTL in ms.
-- Returns a string of 1 for a duplicate and 0 for any other.
local hours, ttl = tonumber(ARGV[2]), ARGV[3]
local answers = {}
for i, key in ipairs(KEYS) do
  local hour = struct.unpack('<d', ARGV[1], 8 * i - 7)
  local seen = redis.call('GET', key)
  if seen and hour - tonumber(seen) < hours then
    answers[i] = '1'
  else
    redis.call('SET', key, string.format('%d', hour), 'PX', ttl)
    answers[i] = '0'
  end
end
return table.concat(answers)

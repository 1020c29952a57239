-- Which of a batch of clicks are new; these are remembered.
-- keys: among them those of the clicks' ids, from `first` on; values: what stands there; hours: what the stream's clock
-- reads at each click.
-- Returns for each click a byte: 1 if it is new, 0 if it is a duplicate.
local function ids(keys, values, first, hours, ttl)
  local seen, new = {}, {}
  for i, hour in ipairs(hours) do
    local key, value = keys[first + i - 1], values[first + i - 1]
    local before = seen[key] or value and tonumber(value)
    if before and hour - before < DUPLICATE_HOURS then
      new[i] = '\0'
    else
      seen[key], new[i] = hour, '\1'
      redis.call('SET', key, string.format('%d', hour), 'PX', ttl)
    end
  end
  return table.concat(new)
end

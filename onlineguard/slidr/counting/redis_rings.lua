-- Rows of counts: rings, each turned so that bucket b is at b modulo its length, and a state of other numbers. A row is
-- read when it is first needed, and written once, after all clicks. Here and below it is known by the number of its key.
local byte, char, pack, read, unpack, floor, max = -- each a look-up less, of which there are dozens a click
  string.byte, string.char, struct.pack, struct.unpack, unpack, math.floor, math.max
local keys, values, serial, ttl, longer -- KEYS, what stands there, the number of the batch, TTL in ms, and that of ips
local rings, states, changed = {}, {}, {}

local ENTITY = {slots = 47, numbers = 9, state = '<IHBHIIIII', bytes = 29}
local IP = {slots = 174, numbers = 17, state = '<IHBHIIIIIIIIIIIII', bytes = 61}
local AD = {slots = 72, numbers = 4, state = '<IIII', bytes = 16}

-- The rings and the state of a row; copies, if the click is not counted.
local function row(key, layout, is_counted)
  local slots, state, n = rings[key], states[key], layout.slots
  if not slots then
    local bytes, after = values[key] or '', layout.bytes
    if #bytes == n + after then
      slots, state = {byte(bytes, 1, n)}, {read(layout.state, bytes, n + 1)}
    elseif #bytes == 4 * n + after then
      slots = {read('<' .. string.rep('I', n), bytes)}
      state = {read(layout.state, bytes, 4 * n + 1)}
    else
      slots, state = old(keys[key], bytes, values, serial, ttl)
    end
    if not slots then
      local zeros = string.rep('\0', n)
      slots, state = {byte(zeros, 1, n)}, {byte(zeros, 1, layout.numbers)}
      if layout == IP then
        state[11] = serial
      end
    end
    rings[key], states[key] = slots, state
  end
  if is_counted then
    changed[key] = layout
    return slots, state
  end
  return {unpack(slots, 1, n)}, {unpack(state, 1, layout.numbers)}
end

-- Writes what has changed: a byte for each count, or all four where one needs more.
local function store()
  for key, layout in pairs(changed) do
    local slots, n = rings[key], layout.slots
    local fit, bytes = pcall(char, unpack(slots, 1, n))
    if not fit then
      bytes = pack('<' .. string.rep('I', n), unpack(slots, 1, n))
    end
    bytes = bytes .. pack(layout.state, unpack(states[key], 1, layout.numbers))
    redis.call('SET', keys[key], bytes, 'PX', layout == IP and longer or ttl)
  end
end

-- The sum of a ring that begins at `start`, after it was turned from one bucket to another.
local function turned(slots, start, size, sum, from, to)
  if sum == 0 then -- so are all its counts
    return 0
  end
  for bucket = max(from, to - size) + 1, to do
    local at = start + bucket % size
    sum, slots[at] = sum - slots[at], 0
  end
  return sum
end

-- That of a ring that ends with bucket `to`, with something more in one of its buckets.
local function added(slots, start, size, sum, to, bucket, more)
  if to - bucket >= size then
    return sum
  end
  local at = start + bucket % size
  slots[at] = slots[at] + more
  return sum + more
end

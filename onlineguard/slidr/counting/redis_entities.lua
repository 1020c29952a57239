-- Counters of entities (`counters`).
-- The state of a row is the head, and the milliseconds within; the number of pauses, and the sums of their logarithms and
-- of the squares of these; and the sums of the rings. Sums are kept, since most of the time of a script is Lua's.
local LENGTHS, SIZES, STARTS = {1, 6, 30, 360, 8640}, {6, 5, 12, 24, 7}, {1, 7, 12, 24, 48}

local buckets, places = {}, {} -- of a click in each ring

local function place(time)
  for k = 1, 5 do
    local length = LENGTHS[k]
    buckets[k] = (time - time % length) / length -- `floor` takes three times as long
    places[k] = STARTS[k] + buckets[k] % SIZES[k]
  end
end

-- Turns the rings of an entity to the click, and counts it there.
local function turn(slots, state, rings, head, is_counted)
  for k = 1, rings do
    local length, size, bucket, sum = LENGTHS[k], SIZES[k], buckets[k], state[5 + k]
    local before = (head - head % length) / length
    if bucket > before then
      sum = turned(slots, STARTS[k], size, sum, before, bucket)
    end
    if is_counted and before - bucket < size then
      local at = places[k]
      slots[at], sum = slots[at] + 1, sum + 1
    end
    state[5 + k] = sum
  end
end

-- The milliseconds since the last click, and the spread of pauses.
local function pause(state, head, to, time, ms, is_counted)
  local since, pauses, total, squares = FIRST, 0, 0, 0
  if (to - to % 360) - (head - head % 360) < 24 * 360 then
    local gap = (time - head) * BUCKET_MS + ms - state[2]
    since = gap < 0 and 0 or gap < FIRST and gap or FIRST
    pauses, total, squares = state[3], state[4], state[5]
    if is_counted and gap >= 0 and gap < PAUSE_MS then
      local fraction, exponent = math.frexp(gap + 1)
      local log = OCTAVE * (exponent - 1) + floor((2 * fraction - 1) * OCTAVE)
      if pauses < PAUSES then
        pauses = pauses + 1
      else
        total, squares = total - floor(total / PAUSES), squares - floor(squares / PAUSES)
      end
      total, squares = total + log, squares + log * log
    end
  end
  state[3], state[4], state[5] = pauses, total, squares
  if pauses == 0 then
    return since, PRIOR_SPREAD
  end
  local about = max(squares - floor(total * total / pauses), 0)
  return since, floor((about + PRIOR_PAUSES * PRIOR_SPREAD) / (pauses + PRIOR_PAUSES))
end

-- Returns the four counts, the milliseconds and the spread that a click sees of its user, session, ip or prefix; of ips
-- also the rings and the state, and the head before the click.
local function entity(key, layout, time, ms, is_counted)
  local slots, state = row(key, layout, is_counted)
  local head = state[1]
  local to = time > head and time or head
  turn(slots, state, layout == IP and 5 or 4, head, is_counted)
  local since, spread = pause(state, head, to, time, ms, is_counted)
  if time > head or time == head and ms > state[2] then
    state[1], state[2] = time, ms
  end
  return pack('<IIIIII', state[6], state[7], state[8], state[9], since, spread), slots, state, head
end

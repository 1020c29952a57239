-- Visitors of ads: three rings of 24 h; their sums, and the hour of the head.
-- Returns the three counts that a click sees.
local function visitors(key, time, is_counted, signed_in, unknown)
  local slots, state = row(key, AD, is_counted)
  local head, hour = state[4], floor(time / 360)
  local to = max(head, hour)
  for k = 1, 3 do
    local start = 24 * k - 23
    if to > head then
      state[k] = turned(slots, start, 24, state[k], head, to)
    end
    if is_counted and (k == 1 or k == 2 and signed_in == 1 or k == 3 and unknown == 1) then
      state[k] = added(slots, start, 24, state[k], to, hour, 1)
    end
  end
  state[4] = to
  return pack('<III', state[1], state[2], state[3])
end

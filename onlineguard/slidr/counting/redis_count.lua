-- Counts a batch of clicks, in order. By click there are the numbers of the keys of its user, session, ip, prefix and ad,
-- and of its user and its session at this ip, each 0 where this call has none; its time as shortest bucket and
-- milliseconds within; 1 or 0 for whether it is signed in, and is of an unknown user; and a byte of `counted` for whether
-- it is counted.
-- Returns the numbers that each click sees, in the order of `windows.COLUMNS`, without those of the keys that it has not;
-- `unseen` stands for those of a user or session.
local function count(clicks, counted, unseen)
  local answers = {}
  local function answer(bytes)
    answers[#answers + 1] = bytes
  end
  for i = 1, #counted do
    local user, session, ip, prefix, ad_, user_there, session_there, time, ms, signed_in, unknown = struct.unpack(
      '<HHHHHHHIHBB', clicks, 22 * i - 21)
    local is_counted = string.byte(counted, i) == 1
    answer(user > 0 and entity(user, ENTITY, time, ms, is_counted) or unseen)
    answer(session > 0 and entity(session, ENTITY, time, ms, is_counted) or unseen)
    local at_ip = ''
    if ip > 0 then
      local of_ip, slots, state, head = entity(ip, IP, time, ms, is_counted)
      answer(of_ip)
      at_ip = members(slots, state, head, time, is_counted, user_there, session_there)
    end
    if prefix > 0 then
      answer((entity(prefix, ENTITY, time, ms, is_counted)))
    end
    answer(at_ip)
    if ad_ > 0 then
      answer(ad(ad_, time, is_counted, signed_in, unknown))
    end
  end
  store()
  store_members()
  return table.concat(answers)
end

-- Counts a batch of clicks, in order. By click there are the numbers of the keys of its user, session, ip, prefix and ad,
-- and of its user and its session at this ip, each 0 where this call has none; its time as shortest bucket and
-- milliseconds within; 1 or 0 for whether it is signed in, and is of an unknown user; and a byte of `counted` for whether
-- it is counted.
-- Returns the numbers that each click sees, in the order of `windows.COLUMNS`, without those of the keys that it has not;
-- `unseen` stands for those of a user or session.
local function count(clicks, counted, unseen)
  local answers, n = {}, 0
  for i = 1, #counted do
    local user, session, ip, prefix, ad, user_there, session_there, time, ms, signed_in, unknown = read(
      '<HHHHHHHIHBB', clicks, 22 * i - 21)
    local is_counted, slots, state, head = byte(counted, i) == 1, nil, nil, nil
    local of_user, of_session, of_ip, of_prefix, there, of_ad = unseen, unseen, '', '', '', ''
    place(time)
    if user > 0 then
      of_user = entity(user, ENTITY, time, ms, is_counted)
    end
    if session > 0 then
      of_session = entity(session, ENTITY, time, ms, is_counted)
    end
    if ip > 0 then
      of_ip, slots, state, head = entity(ip, IP, time, ms, is_counted)
      there = members(slots, state, head, time, is_counted, user_there, session_there)
    end
    if prefix > 0 then
      of_prefix = entity(prefix, ENTITY, time, ms, is_counted)
    end
    if ad > 0 then
      of_ad = visitors(ad, time, is_counted, signed_in, unknown)
    end
    answers[n + 1], answers[n + 2], answers[n + 3] = of_user, of_session, of_ip
    answers[n + 4], answers[n + 5], answers[n + 6] = of_prefix, there, of_ad
    n = n + 6
  end
  store()
  store_members()
  return table.concat(answers)
end

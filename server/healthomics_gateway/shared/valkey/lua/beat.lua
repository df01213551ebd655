-- KEYS: members, floor. ARGV: replica, whether it is attached, how many it knows.
local all = members(KEYS[1])
if all.number == 0 then
  redis.call('SET', KEYS[2], ARGV[3] .. ' ' .. decimal(now + FORGET), 'EX', FORGET)
end
local was_known = all.at[ARGV[1]] and 1 or 0
beat(KEYS[1], all, ARGV[1], ARGV[2] == '1')
local reply = { expected(all, KEYS[2]), was_known }
for id in pairs(all.attached) do
  reply[#reply + 1] = id
end
return reply

-- KEYS: members, counts. ARGV: replica, number, limit or nothing.
local all = members(KEYS[1])
local replica, given, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
hash(KEYS[2], MAX_MEMBERS)
local others = 0
local flat = redis.call('HGETALL', KEYS[2])
for i = 1, #flat, 2 do
  local id, at = flat[i], all.at[flat[i]]
  if not at or #flat[i + 1] > MAX_ID then
    redis.call('HDEL', KEYS[2], id)
  elseif id ~= replica and at > now - ALIVE then
    others = others + number(flat[i + 1], 0, 0, 1e9)
  end
end
if limit and given > 0 and others + given > limit then
  return 0
end
if given > 0 then
  redis.call('HSET', KEYS[2], replica, ARGV[2])
  redis.call('PEXPIRE', KEYS[2], MAX_SECONDS * 1000) -- no watch lasts longer than an hour
else
  redis.call('HDEL', KEYS[2], replica)
end
return 1

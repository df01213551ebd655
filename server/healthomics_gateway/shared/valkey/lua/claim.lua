-- KEYS: members, lease, entry. ARGV: replica, seconds between polls, field, the most bytes.
local all = members(KEYS[1])
local replica, period = ARGV[1], tonumber(ARGV[2])
hash(KEYS[2], 64)
local lease = redis.call('HMGET', KEYS[2], 'holder', 'period')
local holder = lease[1]
local is_held = holder and holder ~= replica and all.attached[holder]
if is_held and lease[2] and #lease[2] <= MAX_ID and number(lease[2], 0, 0, 1e9) <= period then
  return { holder, stored(KEYS[3], ARGV[3], tonumber(ARGV[4])) }
end
redis.call('HSET', KEYS[2], 'holder', replica, 'period', ARGV[2])
local keep = math.min(2 * period + 60, MAX_SECONDS)
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', keep * 1000))
return { replica, false }

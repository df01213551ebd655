-- KEYS: entry, which is also its channel. ARGV: field, value, its age, seconds to keep it.
hash(KEYS[1], 64)
redis.call('HSET', KEYS[1], 'v' .. ARGV[1], ARGV[2], 'a' .. ARGV[1], decimal(now - ARGV[3]))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(1, ARGV[4] * 1000)))
redis.call('PUBLISH', KEYS[1], ARGV[2])
return 1

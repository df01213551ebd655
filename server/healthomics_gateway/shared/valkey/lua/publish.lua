-- KEYS: entry. ARGV: value.
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1

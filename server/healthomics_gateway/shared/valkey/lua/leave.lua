-- KEYS: members. ARGV: replica.
hash(KEYS[1], MAX_MEMBERS)
redis.call('HDEL', KEYS[1], ARGV[1])
return 1

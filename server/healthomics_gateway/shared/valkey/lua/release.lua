-- KEYS: lease, entry. ARGV: replica.
hash(KEYS[1], 64)
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
  redis.call('UNLINK', KEYS[1])
  redis.call('PUBLISH', KEYS[2], '')
end
return 1

-- KEYS: bucket. ARGV: tps, burst, wanted.
local tps, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
hash(KEYS[1], 64)
local all = redis.call('HMGET', KEYS[1], 'tokens', 'filled')
local tokens = number(all[1], burst, 0, burst)
tokens = math.min(tokens + (now - number(all[2], now, 0, now)) * tps, burst)
local granted = math.min(wanted, math.floor(tokens + 1e-6)) -- sums of fractions fall short
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'filled', decimal(now))
-- When it is full again, it may be forgotten.
local full = math.min((burst - tokens) / tps + 1, MAX_SECONDS)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', full * 1000))
return { granted, decimal(granted > 0 and 0 or math.max(1 - tokens, 0) / tps) }

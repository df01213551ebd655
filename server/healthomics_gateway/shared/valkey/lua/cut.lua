-- KEYS: quota. ARGV: tps, burst.
local tps = tonumber(ARGV[1])
local state = quota(KEYS[1], tps, tonumber(ARGV[2]))
if now - state.cut >= 1 then
  state.rate = math.min(math.max(state.rate * 0.7, 0.5), tps) -- as AdaptiveRate
  state.cut = now
  state.tokens = math.min(state.tokens, 0)
  keep(KEYS[1], state)
end
return 1

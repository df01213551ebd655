-- KEYS: quota. ARGV: tps, burst.
local tps = tonumber(ARGV[1])
local state = quota(KEYS[1], tps, tonumber(ARGV[2]))
if now - state.cut >= CUT_EVERY then
  state.rate = math.min(math.max(state.rate * CUT, LEAST_TPS), tps)
  state.cut = now
  state.tokens = math.min(state.tokens, 0)
  keep(KEYS[1], state)
end
return 1

-- KEYS: members, floor, quota. ARGV: replica, tps, burst.
local tps, burst = tonumber(ARGV[2]), tonumber(ARGV[3])
local all = members(KEYS[1])
if not all.at[ARGV[1]] then
  return false
end
beat(KEYS[1], all, ARGV[1], true)
local number_expected = expected(all, KEYS[2])
local state = quota(KEYS[3], tps, burst)
local part = 0
for id in pairs(all.attached) do
  if all.at[id] > now - PRESENT then
    part = part + 1 / number_expected
  end
end
local share = state.rate * part
if state.tokens < 0 then -- the times of the tokens that were reserved don't change
  state.tokens = state.tokens * share / (state.share > 0 and state.share or tps)
end
state.share, state.burst = share, math.max(1, burst * part)
-- Each replica has one token in advance, so far fewer tokens are an error.
local least = 1 - state.burst - 4 * number_expected - SETTLE * tps
state.tokens = math.max(math.min(state.tokens, state.burst), least) - 1
keep(KEYS[3], state)
local asked, before = ARGV[2] .. ' ' .. ARGV[3], redis.call('HGET', KEYS[3], 'asked')
redis.call('HSET', KEYS[3], 'asked', asked)
return {
  decimal(math.max(0, -state.tokens / state.share)),
  string.format('%.17g', state.share),
  before and before ~= asked and 1 or 0,
}

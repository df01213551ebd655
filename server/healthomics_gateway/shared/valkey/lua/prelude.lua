-- What all scripts begin with. Anybody with access to the store may have written at these
-- keys: what isn't as the scripts write it counts as missing, and is removed.
-- scripts.py writes the other names in capitals before this.

local MAX_ID = 64 -- characters
local MAX_SECONDS = 7200 -- that any key but an answer is kept

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function decimal(value)
  return string.format('%.6f', value)
end

-- Return the number that a text has, within bounds; `default` if it has none.
local function number(text, default, least, most)
  local value = tonumber(text)
  if not value or value ~= value then
    return default
  end
  return math.max(least, math.min(most, value))
end

-- Remove what is at a key, unless it is a hash of at most `most` fields.
local function hash(key, most)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and (kind ~= 'hash' or redis.call('HLEN', key) > most) then
    redis.call('UNLINK', key)
  end
end

-- Note that a replica lives.
local function add(all, id, at, is_attached)
  if not all.at[id] then
    all.number = all.number + 1
  end
  all.at[id] = at
  all.attached[id] = (is_attached and at > now - ALIVE) or nil
end

-- Return all replicas that aren't forgotten.
local function members(key)
  hash(key, MAX_MEMBERS)
  local all = { at = {}, attached = {}, number = 0 }
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local id, state = flat[i], flat[i + 1]
    local at = #state < MAX_ID and string.match(state, '^[01] (%d+%.%d+)$')
    at = number(at, 0, 0, now + 1)
    if at <= now - FORGET or #id > MAX_ID then
      redis.call('HDEL', key, id)
    else
      if at > now then -- the clock was set back, or somebody else has written it
        at = now
        redis.call('HSET', key, id, string.sub(state, 1, 1) .. ' ' .. decimal(now))
      end
      add(all, id, at, string.sub(state, 1, 1) == '1')
    end
  end
  return all
end

local function beat(key, all, id, is_attached)
  redis.call('HSET', key, id, (is_attached and '1 ' or '0 ') .. decimal(now))
  redis.call('PEXPIRE', key, 2 * FORGET * 1000)
  add(all, id, now, is_attached)
end

local function expected(all, floor)
  local size = redis.pcall('STRLEN', floor)
  if type(size) == 'table' or size > MAX_ID then -- an error, because it isn't a text
    redis.call('UNLINK', floor)
  end
  local least, till = string.match(redis.call('GET', floor) or '', '^(%d+) (%d+%.%d+)$')
  till = number(till, 0, 0, now + 2 * FORGET)
  if till <= now or till > now + FORGET then
    least = nil
  end
  return math.max(all.number, number(least, 1, 1, MAX_MEMBERS))
end

-- Return a field of an entry and its age, unless it is larger than `most`.
local function stored(key, field, most)
  hash(key, 64)
  local value, at = 'v' .. field, 'a' .. field
  if redis.call('HSTRLEN', key, value) > most or redis.call('HSTRLEN', key, at) > MAX_ID then
    return false
  end
  local found = redis.call('HGET', key, value)
  at = number(redis.call('HGET', key, at), nil, 0, now)
  return found and at and { found, decimal(now - at) }
end

-- Return the state of a quota.
local function quota(key, tps, burst)
  hash(key, 64)
  local all = redis.call('HMGET', key, 'tokens', 'filled', 'share', 'burst', 'rate', 'set', 'cut')
  local state = {
    tokens = number(all[1], -SETTLE * tps, -1e9, burst),
    filled = number(all[2], now, 0, now),
    share = number(all[3], tps, 0, 1e9), -- that of another rate, perhaps
    burst = number(all[4], 0, 0, burst),
    rate = number(all[5], tps, math.min(LEAST_TPS, tps), tps),
    set = number(all[6], now, 0, now),
    cut = number(all[7], 0, 0, now),
  }
  state.tokens = math.min(state.tokens + (now - state.filled) * state.share, state.burst)
  state.rate = math.min(state.rate + (now - state.set) * tps / RECOVERY, tps)
  return state
end

local function keep(key, state)
  redis.call('HSET', key, 'tokens', string.format('%.17g', state.tokens),
    'filled', decimal(now), 'share', string.format('%.17g', state.share),
    'burst', string.format('%.17g', state.burst),
    'rate', string.format('%.17g', state.rate), 'set', decimal(now), 'cut', decimal(state.cut))
  redis.call('PEXPIRE', key, 600000)
end

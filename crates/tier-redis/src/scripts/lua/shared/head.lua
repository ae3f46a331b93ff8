-- The beginning of most scripts: the clock, and functions that read keys and numbers.
-- Versions and times are numbers below 2^53. Epochs and tokens are compared as strings.
local LAST = 2 ^ 53 - 1
local FOREVER = 2 ^ 52
local NONE = string.rep('\0', 8)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local micros = time[1] * 1000000 + time[2]

local function number(bytes, at)
  return math.min((struct.unpack('>I8', bytes, at)), LAST)
end

local function pack(number)
  return struct.pack('>I8', number)
end

-- The epoch under a key. If there is none, stores `seed` as the epoch, if that is given.
local function epoch_at(key, seed)
  local stored = redis.pcall('GET', key)
  if type(stored) == 'string' and #stored == 8 then
    return stored
  end
  if seed then
    redis.call('SET', key, seed, 'PX', EPOCH_LIFE)
  end
  return seed
end

-- The epoch of cells: their own one, and with a tenant XOR the epoch of all tenants, so that a change of
-- either one makes them dead. Without a tenant the two keys are the same.
local function epoch_of(own_key, shared_key, seed)
  local own = epoch_at(own_key, seed)
  if own_key == shared_key then
    return own
  end
  -- With the same seed the two would cancel each other out, so this seed is rotated by a byte.
  local shared = epoch_at(shared_key, seed and string.sub(seed, 2) .. string.sub(seed, 1, 1))
  if not (own and shared) then
    return nil
  end
  local high, low = struct.unpack('>I4I4', own)
  local shared_high, shared_low = struct.unpack('>I4I4', shared)
  return struct.pack('>I4I4', bit.bxor(high, shared_high), bit.bxor(low, shared_low))
end

-- The beginning of most scripts: the clock, and the epoch of cells.
-- Versions and times are numbers below 2^53. Epochs and tokens are compared as strings.
local LAST = 2 ^ 53 - 1
local FOREVER = 2 ^ 52
local NONE = '\0\0\0\0\0\0\0\0'
local call, pcall, pack, unpack = redis.call, redis.pcall, struct.pack, struct.unpack

local time = call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

-- The epoch of cells: their own one, and with a tenant XOR the epoch of all tenants, so that a change of
-- either one makes them dead. Without a tenant the two keys are the same. If there is none, stores `seed` as the
-- epoch, if that is given.
local function epoch_of(own_key, shared_key, seed)
  local own = pcall('GET', own_key)
  if type(own) ~= 'string' or #own ~= 8 then
    if not seed then
      return nil
    end
    own = seed
    call('SET', own_key, own, 'PX', EPOCH_LIFE)
  end
  if own_key == shared_key then
    return own
  end
  -- With the same seed the two would cancel each other out, so this seed is rotated by a byte.
  local shared = epoch_of(shared_key, shared_key, seed and string.sub(seed, 2) .. string.sub(seed, 1, 1))
  if not shared then
    return nil
  end
  local high, low = unpack('>I4I4', own)
  local shared_high, shared_low = unpack('>I4I4', shared)
  return pack('>I4I4', bit.bxor(high, shared_high), bit.bxor(low, shared_low))
end

-- The head of the scripts: the clock, and how what the server keeps is read.
-- Versions and times are numbers below 2^53; epochs and tokens are compared as strings.
local LAST = 2 ^ 53 - 1
local FOREVER = 2 ^ 52
local NONE = string.rep('\0', 8)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local micros = time[1] * 1000000 + time[2]

-- A value of another type under our key counts as nothing.
local function read(key)
  local found = redis.pcall('GET', key)
  return type(found) == 'string' and found or nil
end

local function number(bytes, at)
  return math.min((struct.unpack('>I8', bytes, at)), LAST)
end

local function pack(number)
  return struct.pack('>I8', number)
end

-- One where none is kept begins with `seed`, if that is given.
local function epoch_at(key, seed)
  local kept = read(key)
  if kept and #kept == 8 then
    return kept
  end
  if seed then
    redis.call('SET', key, seed)
  end
  return seed
end

-- The epoch of cells: their owner's, and for tenants mixed with that of all tenants, so that each of
-- the two can change it. Without tenants the keys are one.
local function epoch_of(own_key, common_key, seed)
  local own = epoch_at(own_key, seed)
  if own_key == common_key then
    return own
  end
  -- Not the same seed: the two would cancel each other out.
  local common = epoch_at(common_key, seed and string.sub(seed, 2) .. string.sub(seed, 1, 1))
  if not (own and common) then
    return nil
  end
  local high, low = struct.unpack('>I4I4', own)
  local common_high, common_low = struct.unpack('>I4I4', common)
  return struct.pack('>I4I4', bit.bxor(high, common_high), bit.bxor(low, common_low))
end

-- The head of every script: the clock, the epoch and the key's cell (byte table: core's cell.rs).
-- KEYS[1] the cell, KEYS[2] the epoch; ARGV[1] the epoch to begin where none is kept.
-- Versions and times are numbers below 2^53; epochs and tokens are compared as strings.
-- A reply is one string: what happened (1 byte), the epoch (8), the answer.
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

local epoch = read(KEYS[2])
if not epoch or #epoch ~= 8 then
  epoch = ARGV[1]
  redis.call('SET', KEYS[2], epoch)
end

local cell = read(KEYS[1])
if cell and not (#cell >= 57 and string.find(cell, '^[VNLT]')) then
  cell = nil
end
local state = cell and string.sub(cell, 1, 1)
local floor = cell and number(cell, 2) or 0
local live = cell and string.sub(cell, 10, 17) == epoch and number(cell, 50) > now
local value = live and state == 'V'
local entry = value or (live and state == 'N')
local next_version = math.min(math.max(micros, floor + 1), LAST)

-- Keeps a cell until `ends`, by its own deadlines; one that is over is not kept at all.
local function write(bytes, ends)
  if ends <= now then
    redis.call('DEL', KEYS[1])
  elseif ends >= FOREVER then
    redis.call('SET', KEYS[1], bytes)
  else
    redis.call('SET', KEYS[1], bytes, 'PX', string.format('%.0f', ends - now))
  end
end

local function keep(tag, version, deadlines, envelope)
  write(tag .. pack(version) .. epoch .. NONE .. deadlines .. envelope, number(deadlines, 25))
end

-- A lease or a tombstone.
local function mark(tag, version, token, ttl)
  local ends = now + ttl
  local at = ends < FOREVER and pack(ends) or string.rep('\255', 8)
  write(tag .. pack(version) .. epoch .. token .. pack(now) .. at .. at .. at, ends)
end

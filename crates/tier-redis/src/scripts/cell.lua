-- A script's cell and epoch (byte table: core's cell.rs).
-- KEYS[1] the cell, [2] the epoch of its owner, [3] that of all tenants, or again [2]; ARGV[1] the
-- epoch to begin where none is kept.
-- A reply is one string: what happened (1 byte), the epoch (8), the answer.
local epoch = epoch_of(KEYS[2], KEYS[3], ARGV[1])
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
local function bare(tag, version, token, ttl)
  local ends = now + ttl
  local at = ends < FOREVER and pack(ends) or string.rep('\255', 8)
  write(tag .. pack(version) .. epoch .. token .. pack(now) .. at .. at .. at, ends)
end

-- Whether an authority's put fails its condition.
local function refuses(order, seen)
  return (order == 'absent' and value) or (order == 'version' and not (value and floor == seen))
end

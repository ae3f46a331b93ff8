-- Reads the cell and the epoch of a script (byte table: the module `cell` of terrace-tier).
-- The reply of a script is one string: the outcome (1 byte), the epoch (8 bytes), the answer.
--
-- KEYS 1  the cell
-- KEYS 2  the epoch of its namespace and tenant
-- KEYS 3  the epoch of all tenants, or KEYS 2 again
-- ARGV 1  the epoch, if the server has none
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

-- Stores a cell that expires at `ends`. Deletes the key instead if that time has passed.
local function write(bytes, ends)
  if ends <= now then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], bytes, 'PX', string.format('%.0f', math.min(ends - now, LONGEST_LIFE)))
  end
end

-- Stores a value or a negative entry.
local function write_entry(tag, version, deadlines, envelope)
  write(tag .. pack(version) .. epoch .. NONE .. deadlines .. envelope, number(deadlines, 25))
end

-- Stores a lease or a tombstone.
local function write_marker(tag, version, token, ttl)
  local ends = now + ttl
  local at = ends < FOREVER and pack(ends) or string.rep('\255', 8)
  write(tag .. pack(version) .. epoch .. token .. pack(now) .. at .. at .. at, ends)
end

-- Whether the condition of an authority's put fails.
local function condition_fails(condition, expected)
  return (condition == 'absent' and value) or (condition == 'version' and not (value and floor == expected))
end

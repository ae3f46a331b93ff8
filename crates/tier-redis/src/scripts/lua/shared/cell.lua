-- Reads and writes one cell (byte table: the module `cell` of terrace-tier).

-- The state of a cell, or nil if the bytes are no cell or a dead one; then its version, token, end, and the point
-- until which it is fresh. The version of bytes that are no cell is 0.
local function open(bytes, epoch)
  if type(bytes) ~= 'string' or #bytes < 57 or not string.find(bytes, '^[VNLT]') then
    return nil, 0, NONE, 0, NONE
  end
  local state, version, of, token, _, fresh, _, ends = struct.unpack('>c1I8c8c8c8c8c8I8', bytes)
  if of ~= epoch or ends <= now then
    state = nil
  end
  return state, math.min(version, LAST), token, ends, fresh
end

-- The cell under a key as `open` gives it. The envelope is not read.
local function look(key, epoch)
  return open(redis.pcall('GETRANGE', key, 0, 56), epoch)
end

-- Stores a cell that expires at `ends`. Deletes the key instead if that time has passed.
local function write(key, bytes, ends)
  if ends <= now then
    redis.call('DEL', key)
  else
    redis.call('SET', key, bytes, 'PXAT', math.min(ends, now + LONGEST_LIFE))
  end
end

-- Stores a value or a negative entry. `content` is what follows the epoch: no token, the deadlines, the envelope.
local function write_entry(key, epoch, state, version, content)
  write(key, state .. version .. epoch .. content, number(content, 33))
end

-- Stores a lease or a tombstone. `fresh` is the end of its life, unless a lease has a waiter.
local function write_marker(key, epoch, state, version, token, ttl, fresh)
  local ends = now + ttl
  local at = ends < FOREVER and pack(ends) or string.rep('\255', 8)
  write(key, state .. pack(version) .. epoch .. token .. pack(now) .. (fresh or at) .. at .. at, ends)
end

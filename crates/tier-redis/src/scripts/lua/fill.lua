-- Stores a loaded value if the cell still holds the loader's lease.
--
-- KEYS of a cell  the cell; the channels of the processes that wait for the lease
-- ARGV of a cell  1: the token (8 bytes), the version (8), the state (1); 2: the content
local function fill(epoch, key, at)
  local cell, token, given, state = KEYS[key], struct.unpack('>c8c8c1', ARGV[at])
  local before, floor, held, _, fresh = look(cell, epoch)
  if token == NONE or not before or held ~= token or number(given, 1) < floor then
    return 'R' .. epoch, key + 2, at + 2
  end
  -- A lease with a waiter is marked; a stale value keeps its own deadlines, so it is not.
  if before ~= 'L' or fresh == NONE then
    -- The result of PUBLISH is ignored: if the user may not publish, the processes find the end by polling.
    for _, channel in ipairs(redis.pcall('SMEMBERS', KEYS[key + 1])) do
      redis.pcall('PUBLISH', channel, 'C' .. held)
    end
  end
  write_entry(cell, epoch, state, given, ARGV[at + 1])
  return 'K' .. epoch .. given, key + 2, at + 2
end

-- Stores a loaded value if the cell still holds the loader's lease.
--
-- KEYS of a cell  the cell; the channels of the processes that wait for the lease
-- ARGV of a cell  1: the token (8 bytes), the version (8), the state (1); 2: what follows the epoch in the new cell:
--                 no token, the deadlines, the envelope; 3: its end in ms, as text
local function fill(epoch, key, at)
  local cell, token, version, state = KEYS[key], unpack('>c8c8c1', ARGV[at])
  local before, floor, held, fresh = open(pcall('GETRANGE', cell, 0, 56), epoch)
  if token == NONE or not before or held ~= token or unpack('>I8', version) < floor then
    return 'R' .. epoch, key + 2, at + 3
  end
  -- A lease with a waiter is marked; a stale value keeps its own deadlines, so it is not.
  if before ~= 'L' or fresh == NONE then
    -- The result of PUBLISH is ignored: if the user may not publish, the processes find the end by polling.
    for _, channel in ipairs(pcall('SMEMBERS', KEYS[key + 1])) do
      pcall('PUBLISH', channel, 'C' .. held)
    end
  end
  store(cell, state, version, epoch, ARGV[at + 1], ARGV[at + 2])
  return 'K' .. epoch .. version, key + 2, at + 3
end

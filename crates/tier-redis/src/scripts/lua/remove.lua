-- Deletes a value as the authority.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the time to live of the tombstone in ms, as text; 2: the key for the log, with its length
local function remove(epoch, key, at)
  local cell = KEYS[key]
  local state, floor = open(pcall('GETRANGE', cell, 0, 56), epoch)
  local version = issue_version(floor)
  if changes then
    changes[#changes + 1] = pack('>I8', version) .. ARGV[at + 1]
  end
  store_marker(cell, epoch, 'T', version, NONE, ARGV[at])
  return 'D' .. epoch .. (state == 'V' and '1' or '0') .. pack('>I8', version), key + 1, at + 2
end

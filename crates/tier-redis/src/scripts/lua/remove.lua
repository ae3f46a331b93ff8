-- Deletes a value as the authority.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the time to live of the tombstone in ms (8 bytes); 2: the key for the log
local function remove(epoch, key, at)
  local cell = KEYS[key]
  local state, floor = look(cell, epoch)
  local version = issue_version(floor)
  log(version, ARGV[at + 1])
  write_marker(cell, epoch, 'T', version, NONE, (struct.unpack('>I8', ARGV[at])))
  return 'D' .. epoch .. (state == 'V' and '1' or '0') .. pack(version), key + 1, at + 2
end

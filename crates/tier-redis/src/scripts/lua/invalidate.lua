-- Replaces the copy and the lease of a key by a tombstone.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the tombstone's time to live in ms (8 bytes); then, if there is one, the version from which on
--                 a copy stays (8); 2: the key for the log
local function invalidate(epoch, key, at)
  local cell, asked, name = KEYS[key], ARGV[at], ARGV[at + 1]
  local state, version = look(cell, epoch)
  key, at = key + 1, at + 2
  if #asked == 16 then
    local given = number(asked, 9)
    log(given, name)
    if state and state ~= 'T' and version >= given then
      return 'D' .. epoch .. '0' .. pack(version), key, at
    end
    version = math.max(version, given)
  else
    log(0, name)
  end
  write_marker(cell, epoch, 'T', version, NONE, (struct.unpack('>I8', asked)))
  return 'D' .. epoch .. (state == 'V' and '1' or '0') .. pack(version), key, at
end

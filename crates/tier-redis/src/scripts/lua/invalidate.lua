-- Replaces the copy and the lease of a key by a tombstone.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the tombstone's time to live in ms (8 bytes); then, if there is one, the version from which on
--                 a copy stays (8); 2: the key for the log, with its length
local function invalidate(epoch, key, at)
  local cell, asked = KEYS[key], ARGV[at]
  local state, version = open(pcall('GETRANGE', cell, 0, 56), epoch)
  local given = #asked == 16 and math.min(unpack('>I8', asked, 9), LAST) or 0
  if changes then
    changes[#changes + 1] = pack('>I8', given) .. ARGV[at + 1]
  end
  if #asked == 16 and state and state ~= 'T' and version >= given then
    return 'D' .. epoch .. '0' .. pack('>I8', version), key + 1, at + 2
  end
  version = math.max(version, given)
  store_marker(cell, epoch, 'T', version, NONE, (unpack('>I8', asked)))
  return 'D' .. epoch .. (state == 'V' and '1' or '0') .. pack('>I8', version), key + 1, at + 2
end

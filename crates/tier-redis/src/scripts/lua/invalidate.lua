-- Replaces the copy and the lease of a key by a tombstone.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the version from which on a copy stays (8 bytes), or ''; 2: the tombstone's time to live in ms, as
--                 text; 3: the key for the log, with its length
local function invalidate(epoch, key, at)
  local cell, asked = KEYS[key], ARGV[at]
  local state, version = open(pcall('GETRANGE', cell, 0, 56), epoch)
  local given = #asked == 8 and math.min(unpack('>I8', asked), LAST) or 0
  if changes then
    changes[#changes + 1] = pack('>I8', given) .. ARGV[at + 2]
  end
  if #asked == 8 and state and state ~= 'T' and version >= given then
    return 'D' .. epoch .. '0' .. pack('>I8', version), key + 1, at + 3
  end
  version = math.max(version, given)
  store_marker(cell, epoch, 'T', version, NONE, ARGV[at + 1])
  return 'D' .. epoch .. (state == 'V' and '1' or '0') .. pack('>I8', version), key + 1, at + 3
end

-- Replaces the copy and the lease of a key by a tombstone.
--
-- ARGV 2    a copy of this version or of a later one stays; '' if none stays
-- ARGV 3    the tombstone's time to live in ms
-- the rest  as in `shared/cell.lua` and `shared/log.lua`
local version = floor
if ARGV[2] ~= '' then
  local given = number(ARGV[2], 1)
  append_entry('K', given)
  if (entry or (live and state == 'L')) and floor >= given then
    return 'D' .. epoch .. '0' .. pack(floor)
  end
  version = math.max(floor, given)
else
  append_entry('K', 0)
end
write_marker('T', version, NONE, tonumber(ARGV[3]))
return 'D' .. epoch .. (value and '1' or '0') .. pack(version)

-- Writes a value.
--
-- ARGV 2    the order: follow, unfenced, always, absent or version
-- ARGV 3    the version of the order
-- ARGV 4    the time to live of a tombstone in ms
-- ARGV 5    the deadlines
-- ARGV 6    the state
-- ARGV 7    the envelope
-- the rest  as in `shared/cell.lua` and `shared/log.lua`
local order, version = ARGV[2], number(ARGV[3], 1)
if order == 'follow' then
  -- Logged even if nothing changes here: a reader may have filled the new value already.
  append_entry('K', version)
  if not (entry or (live and state == 'L' and floor >= version)) then
    write_marker('T', math.max(floor, version), NONE, tonumber(ARGV[4]))
    return 'R' .. epoch
  end
  if floor >= version then
    return 'R' .. epoch
  end
elseif order == 'unfenced' then
  append_entry('K', 0)
else
  if condition_fails(order, version) then
    return 'R' .. epoch .. (entry and cell or '')
  end
  version = issue_version()
  append_entry('K', version)
end
write_entry(ARGV[6], version, ARGV[5], ARGV[7])
return 'K' .. epoch .. pack(version)

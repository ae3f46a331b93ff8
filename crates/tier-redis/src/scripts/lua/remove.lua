-- Deletes a value as the authority.
--
-- ARGV 2    the time to live of the tombstone in ms
-- the rest  as in `shared/cell.lua` and `shared/log.lua`
append_entry('K', next_version)
write_marker('T', next_version, NONE, tonumber(ARGV[2]))
return 'D' .. epoch .. (value and '1' or '0') .. pack(next_version)

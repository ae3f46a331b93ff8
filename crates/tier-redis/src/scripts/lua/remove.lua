-- Deletes a value as the authority.
--
-- ARGV 2    the time to live of the tombstone in ms
-- the rest  as in `shared/cell.lua` and `shared/log.lua`
local version = issue_version()
append_entry('K', version)
write_marker('T', version, NONE, tonumber(ARGV[2]))
return 'D' .. epoch .. (value and '1' or '0') .. pack(version)

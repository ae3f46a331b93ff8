-- Stores a loaded value if the cell still holds the loader's lease.
--
-- KEYS 4    the channels of the processes that wait for the lease
-- ARGV 2    the token
-- ARGV 3    the version
-- ARGV 4    the deadlines
-- ARGV 5    the state
-- ARGV 6    the envelope
-- the rest  as in `shared/cell.lua`
local version = number(ARGV[3], 1)
local held = live and string.sub(cell, 18, 25)
if ARGV[2] == NONE or held ~= ARGV[2] or version < floor then
  return 'R' .. epoch
end
-- The result of PUBLISH is ignored: if the user may not publish, the processes find the end by polling.
for _, channel in ipairs(redis.pcall('SMEMBERS', KEYS[4])) do
  redis.pcall('PUBLISH', channel, 'C' .. held)
end
write_entry(ARGV[5], version, ARGV[4], ARGV[6])
return 'K' .. epoch .. pack(version)

-- Stores a loaded value if the cell still holds the loader's lease.
-- ARGV[2] token, [3] version, [4] deadlines, [5] state, [6] envelope.
local version = number(ARGV[3], 1)
local held = live and string.sub(cell, 18, 25)
if ARGV[2] == NONE or held ~= ARGV[2] or version < floor then
  return 'R' .. epoch
end
-- KEYS[4] holds the channels of the processes that wait. If the user may not publish, they poll.
for _, channel in ipairs(redis.pcall('SMEMBERS', KEYS[4])) do
  redis.pcall('PUBLISH', channel, 'C' .. held)
end
write_entry(ARGV[5], version, ARGV[4], ARGV[6])
return 'K' .. epoch .. pack(version)

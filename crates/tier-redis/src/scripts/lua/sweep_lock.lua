-- Marks that a process sweeps, for a while. Returns 1, or 0 if another process does.
--
-- KEYS 1  the mark
-- ARGV 1  a number that no other process has
-- ARGV 2  how long the mark stays, in ms
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] then
  return 0
end
-- Deleted first, so that a server whose memory is full takes the new one.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

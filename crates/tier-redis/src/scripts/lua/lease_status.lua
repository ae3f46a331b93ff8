-- Returns the status of a lease and registers a process that waits for it.
-- The status is one letter: C changed, A alive, F free, S silent.
--
-- KEYS 4    the channels of the processes that wait for the lease
-- KEYS 5    the keep-alive of the lease
-- ARGV 2    the token
-- ARGV 3    the channel of the process
-- ARGV 4    how long the channel stays registered, in ms
-- the rest  as in `shared/cell.lua`
if not live or string.sub(cell, 18, 25) ~= ARGV[2] then
  return 'C'
end
redis.call('SADD', KEYS[4], ARGV[3])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return read(KEYS[5]) or 'S'

-- Returns the status of a lease and registers a process that waits for it.
-- The status is one letter: C changed, A alive, F free, S silent.
--
-- KEYS 1     the cell
-- KEYS 2, 3  the epoch of its namespace and tenant; the epoch of all tenants, or KEYS 2 again
-- KEYS 4     the channels of the processes that wait for the lease
-- KEYS 5     the keep-alive of the lease
-- ARGV 1     the epoch, if the server has none
-- ARGV 2     the token
-- ARGV 3     the channel of the process
-- ARGV 4     how long the channel stays registered, in ms
local state, _, held, fresh = open(pcall('GETRANGE', KEYS[1], 0, 56), epoch_of(KEYS[2], KEYS[3], ARGV[1]))
if not state or held ~= ARGV[2] then
  return 'C'
end
call('SADD', KEYS[4], ARGV[3])
call('PEXPIRE', KEYS[4], ARGV[4])
-- The mark tells the fill that somebody waits. A stale value has deadlines of its own in that place.
if state == 'L' and fresh ~= NONE then
  call('SETRANGE', KEYS[1], 33, NONE)
end
local sign = pcall('GET', KEYS[5])
return type(sign) == 'string' and sign or 'S'

-- Returns the status of a lease and registers a process that waits for it. KEYS[4] holds the channels of
-- the processes that wait, KEYS[5] the heartbeat. ARGV[2] is the token, [3] the channel of the process,
-- [4] how long the channel stays registered, in ms.
-- The status is one letter: C changed, A alive, F free, S silent.
if not live or string.sub(cell, 18, 25) ~= ARGV[2] then
  return 'C'
end
redis.call('SADD', KEYS[4], ARGV[3])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return read(KEYS[5]) or 'S'

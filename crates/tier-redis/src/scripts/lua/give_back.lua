-- Gives a lease back. KEYS[1] is its heartbeat, KEYS[2] the channels of the processes that wait.
-- ARGV[1] is the token, ARGV[2] how long the heartbeat reports it, in ms. If the user may not publish,
-- the waiting processes poll.
redis.call('SET', KEYS[1], 'F', 'PX', ARGV[2])
for _, channel in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.pcall('PUBLISH', channel, 'F' .. ARGV[1])
end
return 'F'

-- Releases a lease.
--
-- KEYS 1  the keep-alive of the lease
-- KEYS 2  the channels of the processes that wait for it
-- ARGV 1  the token
-- ARGV 2  how long the key says that the lease is released, in ms
redis.call('SET', KEYS[1], 'F', 'PX', ARGV[2])
-- The result of PUBLISH is ignored: if the user may not publish, the processes find the end by polling.
for _, channel in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.pcall('PUBLISH', channel, 'F' .. ARGV[1])
end
return 'F'

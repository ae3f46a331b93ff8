-- Gives a lease back. KEYS[1] its holder's sign of life, [2] who waits; ARGV[1] token, [2] for how
-- long the sign says so, in ms. Who may not publish is found out by their next look.
redis.call('SET', KEYS[1], 'F', 'PX', ARGV[2])
for _, inbox in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.pcall('PUBLISH', inbox, 'F' .. ARGV[1])
end
return 'F'

-- Adds to counters of a group, all in one step. Beyond the limit of names a new one is counted as another.
--
-- KEYS 1    the hash of the group
-- ARGV 1    the most names
-- ARGV 2    the name that stands for those beyond
-- ARGV 3    how long the group is kept after the last addition, in ms
-- ARGV 4..  pairs of a name and what is added
local limit = tonumber(ARGV[1])
for i = 4, #ARGV, 2 do
  local name = ARGV[i]
  if redis.call('HEXISTS', KEYS[1], name) == 0 and redis.call('HLEN', KEYS[1]) >= limit then
    name = ARGV[2]
  end
  redis.call('HINCRBY', KEYS[1], name, ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1

-- Makes all cells of a namespace dead. KEYS[1] the epoch, maybe [2] that of all tenants; ARGV[2] and [3]
-- the new ones.
for at = 1, #KEYS - 2 do
  redis.call('SET', KEYS[at], ARGV[at + 1])
end
tell('C', 0)
return redis.status_reply('OK')

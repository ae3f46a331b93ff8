-- Makes all cells of a namespace dead. KEYS[1] the epoch; ARGV[2] the new one.
redis.call('SET', KEYS[1], ARGV[2])
tell('C', 0)
return redis.status_reply('OK')

-- Makes all cells of a namespace dead.
--
-- KEYS 1     the epoch of the namespace
-- KEYS 2     the epoch of all tenants, if the namespace has no tenant
-- ARGV 2, 3  the new epochs
-- the last ARGV  the beginning of the log entry; '' for a namespace without a log
for at = 1, #KEYS - 2 do
  call('SET', KEYS[at], ARGV[at + 1], 'PX', EPOCH_LIFE)
end
begin_group(ARGV[#ARGV], KEYS[1])
end_group(ARGV[#ARGV], 'C')
return redis.status_reply('OK')

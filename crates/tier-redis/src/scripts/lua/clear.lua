-- Makes all cells of a namespace dead. KEYS[1] is its epoch; KEYS[2] may be the epoch of all tenants.
-- ARGV[2] and ARGV[3] are the new epochs.
for at = 1, #KEYS - 2 do
  redis.call('SET', KEYS[at], ARGV[at + 1])
end
append_entry('C', 0)
return redis.status_reply('OK')

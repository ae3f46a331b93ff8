-- The invalidation log. The last two KEYS are its head and its entries. The last argument is the end of
-- the entry, from the origin on; '' means that the namespace has no log. ARGV[1] is a number that no
-- other call has. Entries are numbered without a gap, from 2 on: 1 is the beginning of a new log.
local ENTRIES = 16384

local function append_entry(kind, version)
  if ARGV[#ARGV] == '' then
    return
  end
  local head, entries = KEYS[#KEYS - 1], KEYS[#KEYS]
  local sequence = redis.call('HINCRBY', head, 'sequence', 1)
  if sequence == 1 then
    sequence = redis.call('HINCRBY', head, 'sequence', 1)
    redis.call('HSET', head, 'id', ARGV[1])
    redis.call('DEL', entries)
  end
  redis.call('XADD', entries, 'MAXLEN', '~', ENTRIES, string.format('%.0f-0', sequence),
    'e', kind .. struct.pack('>I8', version) .. ARGV[1] .. ARGV[#ARGV])
end

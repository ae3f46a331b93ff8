-- The invalidation log: the last two keys are its head and its entries, the last argument says who
-- changes whose key ('' where no log is kept), ARGV[1] is a number that no other call has.
-- Entries are numbered without a gap, from 2 on: 1 is the beginning of a log that has none yet.
local ENTRIES = 16384

local function tell(kind, version)
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

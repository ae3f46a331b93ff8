-- The invalidation log. Its entries are numbered without a gap, from 2 on: 1 is the beginning of a new log.
--
-- the last two KEYS  the head and the entries of the log
-- ARGV 1             a number that no other call has
-- the last ARGV      the end of the entry, from the origin on; '' for a namespace without a log
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

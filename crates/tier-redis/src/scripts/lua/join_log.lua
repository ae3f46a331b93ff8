-- Finds the last entry of the log, after which a reader begins. Begins a new log if there is none.
-- Returns the id of the log, and the number and the bytes of its last entry.
--
-- KEYS 1      the head of the log
-- KEYS 2      the entries
-- KEYS 3, ..  epochs
-- ARGV 1      the id for a new log
-- ARGV 2      the id of the log that the reader knows, or ''
-- ARGV 3      the number of the last entry that it read
-- ARGV 4      the bytes of that entry
-- ARGV 5, ..  a new value for each epoch
local head, entries = KEYS[1], KEYS[2]
-- As in `shared/full.lua`: new epochs are written on a server whose memory is full, too.
redis.pcall('HDEL', head, '')
local known, read = ARGV[2], tonumber(ARGV[3])

local function entry_at(sequence)
  local at = string.format('%.0f-0', sequence)
  local found = redis.call('XRANGE', entries, at, at)[1]
  return found and found[2][2] or ''
end

local id = redis.call('HGET', head, 'id')
local sequence = tonumber(redis.call('HGET', head, 'sequence') or 0)
-- The reader has read an entry that the log does not hold: the server was rolled back.
local rolled_back = false
if id and id == known then
  local now = entry_at(read)
  rolled_back = sequence < read or (now ~= '' and ARGV[4] ~= '' and now ~= ARGV[4])
end
if not id or rolled_back then
  redis.call('DEL', head, entries)
  redis.call('HSET', head, 'id', ARGV[1], 'sequence', 1)
  id, sequence = ARGV[1], 1
end
-- The cells may be as old as the lost log. New epochs make them dead, once for each new log and epoch.
if known ~= '' and id ~= known then
  for at = 3, #KEYS do
    if redis.call('HSETNX', head, KEYS[at], '') == 1 then
      redis.call('SET', KEYS[at], ARGV[at + 2], 'PX', EPOCH_LIFE)
    end
  end
end
return {id, string.format('%.0f', sequence), entry_at(sequence)}

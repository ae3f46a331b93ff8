-- Where a follower begins to read. KEYS[1] the log's head, [2] its entries, then epochs; ARGV[1] the
-- id of a log to begin, [2] the id that the follower knows or '', [3] the number and [4] the bytes
-- of the last entry it read, then a new epoch for each. Answers with id, number, last entry.
local head, entries = KEYS[1], KEYS[2]
local known, read = ARGV[2], tonumber(ARGV[3])

local function entry_at(sequence)
  local at = string.format('%.0f-0', sequence)
  local found = redis.call('XRANGE', entries, at, at)[1]
  return found and found[2][2] or ''
end

local id = redis.call('HGET', head, 'id')
local sequence = tonumber(redis.call('HGET', head, 'sequence') or 0)
-- What was read here is not what is here now: the server went back in time.
local went_back = false
if id and id == known then
  local now = entry_at(read)
  went_back = sequence < read or (now ~= '' and ARGV[4] ~= '' and now ~= ARGV[4])
end
if not id or went_back then
  redis.call('DEL', head, entries)
  redis.call('HSET', head, 'id', ARGV[1], 'sequence', 1)
  id, sequence = ARGV[1], 1
end
-- The cells may be as old as the log was: they die, once for each new log and epoch.
if known ~= '' and id ~= known then
  for at = 3, #KEYS do
    if redis.call('HSETNX', head, KEYS[at], '') == 1 then
      redis.call('SET', KEYS[at], ARGV[at + 2])
    end
  end
end
return {id, string.format('%.0f', sequence), entry_at(sequence)}

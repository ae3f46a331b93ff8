-- The invalidation log. Its entries are numbered without a gap, from 2 on: 1 is the beginning of a new log.
-- The changes of a call share entries, and its numbers are counted once.
--
-- the last two KEYS  the head and the entries of the log
-- ARGV 1             a number that no other call has; it makes the entry unique
local ENTRIES = 16384
-- The most keys in one entry. It bounds what the log takes in memory.
local ENTRY_KEYS = 16

local head, entries = KEYS[#KEYS - 1], KEYS[#KEYS]
-- The changes of a group, the last number of the log, and the last version that was issued in the namespace of
-- the group; `issued` is nil where the namespace keeps no log.
local changes, sequence, issued, issued_before, issued_field

-- Begins a group. `names` is the beginning of its entries; '' for a namespace without a log.
local function begin_group(names, shared_epoch)
  changes, issued = {}, nil
  if names == '' then
    return
  end
  issued_field = 'issued:' .. shared_epoch
  local found = redis.call('HMGET', head, 'sequence', issued_field)
  issued = tonumber(found[2] or 0)
  issued_before, sequence = issued, tonumber(found[1] or 0)
  if sequence == 0 then
    redis.call('HSET', head, 'id', ARGV[1])
    redis.call('DEL', entries)
    sequence = 1
  end
end

-- Adds the change of a key. `name` is the key with its length.
local function log(version, name)
  if issued then
    changes[#changes + 1] = pack(version) .. name
  end
end

-- Appends the changes of a group: `kind` is K for keys, C for a clear.
local function end_group(names, kind)
  if not issued or (#changes == 0 and kind == 'K') then
    return
  end
  local first = sequence
  sequence = sequence + math.max(math.ceil(#changes / ENTRY_KEYS), 1)
  if issued == issued_before then
    redis.call('HSET', head, 'sequence', sequence)
  else
    redis.call('HSET', head, 'sequence', sequence, issued_field, issued)
  end
  for entry = first + 1, sequence do
    local from = (entry - first - 1) * ENTRY_KEYS + 1
    local part = table.concat(changes, '', from, math.min(from + ENTRY_KEYS - 1, #changes))
    redis.call('XADD', entries, 'MAXLEN', '~', ENTRIES, string.format('%.0f-0', entry),
      'e', kind .. ARGV[1] .. names .. part)
  end
end

-- The invalidation log. Its entries are numbered without a gap, from 2 on: 1 is the beginning of a new log.
-- The changes of a group share entries.
--
-- the last two KEYS  the head and the entries of the log
-- ARGV 1             a number that no other call has; it makes the entry unique
local ENTRIES = '16384'
-- The most keys in one entry. It bounds what the log takes in memory.
local ENTRY_KEYS = 16

local head, entries = KEYS[#KEYS - 1], KEYS[#KEYS]
-- The changes of a group, each a version and a key with its length; the last number of the log; and the last version
-- that was issued in the namespace of the group. `changes` is nil where the namespace keeps no log.
local changes, sequence, issued, issued_before, issued_field

-- Begins a group. `names` is the beginning of its entries; '' for a namespace without a log.
local function begin_group(names, shared_epoch)
  changes, issued = nil, 0
  if names == '' then
    return
  end
  issued_field = 'issued:' .. shared_epoch
  local found = call('HMGET', head, 'sequence', issued_field)
  changes, sequence, issued = {}, tonumber(found[1]), found[2] and unpack('>I8', found[2]) or 0
  issued_before = issued
  if not sequence then
    call('HSET', head, 'id', ARGV[1])
    call('DEL', entries)
    sequence = 1
  end
end

-- Appends the changes of a group: `kind` is K for keys, C for a clear.
local function end_group(names, kind)
  if not changes or (#changes == 0 and kind == 'K') then
    return
  end
  local first = sequence
  sequence = sequence + math.max(math.ceil(#changes / ENTRY_KEYS), 1)
  local last = string.format('%.0f', sequence)
  if issued == issued_before then
    call('HSET', head, 'sequence', last)
  else
    call('HSET', head, 'sequence', last, issued_field, pack('>I8', issued))
  end
  for entry = first + 1, sequence do
    local from = (entry - first - 1) * ENTRY_KEYS + 1
    local part = table.concat(changes, '', from, math.min(from + ENTRY_KEYS - 1, #changes))
    local id = (entry == sequence and last or string.format('%.0f', entry)) .. '-0'
    call('XADD', entries, 'MAXLEN', '~', ENTRIES, id, 'e', kind .. ARGV[1] .. names .. part)
  end
end

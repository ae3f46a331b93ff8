-- The cells of a call come in groups, one for each namespace and tenant.
--
-- KEYS of a group  its epoch; the epoch of all tenants, or the same key again; the keys of each cell
-- ARGV of a group  the number of its cells; the beginning of its log entries, '' for no log; the arguments of each
--                  cell
-- ARGV 1           a number that no other call has: it becomes the epoch if the server has none
--
-- Each cell has one reply: the outcome (1 byte), the epoch (8 bytes), the answer.

-- Calls `change(epoch, key, at)` for each cell: its keys begin at KEYS[key], and its arguments at ARGV[at]. It
-- returns the reply, and where the next cell begins. `key` and `at` are the indexes of the first group, and `last`
-- that of the last key.
local function each(change, key, last, at, begin_group, end_group)
  local replies, number = {}, 0
  while key <= last do
    local own, shared, count, names = KEYS[key], KEYS[key + 1], tonumber(ARGV[at]), ARGV[at + 1]
    local epoch = epoch_of(own, shared, ARGV[1])
    if begin_group then
      begin_group(names, shared)
    end
    key, at = key + 2, at + 2
    for cell = number + 1, number + count do
      replies[cell], key, at = change(epoch, key, at)
    end
    number = number + count
    if begin_group then
      end_group(names, 'K')
    end
  end
  return replies
end

-- A relay's step: invalidates copies and moves the watermark, or does nothing if the watermark is not the
-- expected one. It calls the other scripts as functions of their KEYS and ARGV.
-- KEYS[1] is the watermark's cell, [2] and [3] are its epochs. More epochs follow, then the cells to
-- invalidate, then the log.
-- ARGV[2] is the condition on the watermark and [3] its version, [4] the time to live of tombstones in ms,
-- [5] the watermark's deadlines, [6] its value, [7] the number of clears, [8] the index of the first cell
-- among the KEYS. For each clear follow the index of its epoch, the new epoch and a log entry; for each
-- cell the indexes of its two epochs, a version or '', and a log entry. The watermark's entry is last.
if condition_fails(ARGV[2], number(ARGV[3], 1)) then
  return 'R' .. epoch
end
local seed, head, entries = ARGV[1], KEYS[#KEYS - 1], KEYS[#KEYS]
local at = 9
for _ = 1, tonumber(ARGV[7]) do
  clear({KEYS[tonumber(ARGV[at])], head, entries}, {seed, ARGV[at + 1], ARGV[at + 2]})
  at = at + 3
end
for cell = tonumber(ARGV[8]), #KEYS - 2 do
  local own, shared = KEYS[tonumber(ARGV[at])], KEYS[tonumber(ARGV[at + 1])]
  invalidate({KEYS[cell], own, shared, head, entries}, {seed, ARGV[at + 2], ARGV[4], ARGV[at + 3]})
  at = at + 4
end
-- The watermark moves last: an error above leaves some copies invalidated and the watermark unmoved.
return put({KEYS[1], KEYS[2], KEYS[3], head, entries},
  {seed, ARGV[2], ARGV[3], ARGV[4], ARGV[5], 'V', ARGV[6], ARGV[#ARGV]})

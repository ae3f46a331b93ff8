-- A relay's step: invalidates copies and advances the watermark, or does nothing if the watermark is not the
-- expected one. The step calls the other scripts as functions of their KEYS and ARGV.
--
-- KEYS 1        the watermark's cell
-- KEYS 2, 3     its epochs
-- KEYS 4, ..    the epochs of the clears and of the cells, then the cells to invalidate
-- the last two  the head and the entries of the log
-- ARGV 2        the condition on the watermark
-- ARGV 3        the version of the condition
-- ARGV 4        the time to live of tombstones in ms
-- ARGV 5        the watermark's deadlines
-- ARGV 6        the watermark's value
-- ARGV 7        the number of clears
-- ARGV 8        the index of the first cell to invalidate among the KEYS
-- ARGV 9, ..    for each clear the index of its epoch, the new epoch and the end of its log entry; then for
--               each cell the indexes of its two epochs, a version or '', and the end of its log entry
-- the last one  the end of the watermark's log entry
if condition_fails(ARGV[2], number(ARGV[3], 1)) then
  return 'R' .. epoch
end
redis.pcall('PEXPIRE', KEYS[2], EPOCH_LIFE)
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
-- The watermark advances last: an error above leaves some copies invalidated and the watermark as it was.
return put({KEYS[1], KEYS[2], KEYS[3], head, entries},
  {seed, ARGV[2], ARGV[3], ARGV[4], ARGV[5], 'V', ARGV[6], ARGV[#ARGV]})

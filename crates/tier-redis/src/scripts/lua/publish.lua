-- A relay's step: invalidates copies and advances the watermark, or does nothing if the watermark is not the
-- expected one.
--
-- KEYS 1, 2, 3  the epoch of the watermark; the same, or that of all tenants; the watermark's cell
-- KEYS 4, ..    the epochs of the clears, then the groups of the cells to invalidate
-- the last two  the head and the entries of the log
-- ARGV 2        the number of clears
-- ARGV 3, ..    the group of the watermark, with one put of four arguments; then for each clear the new epoch and the
--               beginning of its log entry; then the groups of the cells to invalidate
local order, expected = unpack('>c1I8', ARGV[5])
local state, version = open(pcall('GETRANGE', KEYS[3], 0, 56), epoch_of(KEYS[1], KEYS[2], ARGV[1]))
if (order == 'N' and state == 'V') or (order == 'C' and not (state == 'V' and version == expected)) then
  return {'R' .. epoch_of(KEYS[1], KEYS[2])}
end
pcall('PEXPIRE', KEYS[1], EPOCH_LIFE)
local clears = tonumber(ARGV[2])
for clear = 1, clears do
  local key, at = 3 + clear, 7 + 2 * clear
  call('SET', KEYS[key], ARGV[at], 'PX', EPOCH_LIFE)
  begin_group(ARGV[at + 1], KEYS[key])
  end_group(ARGV[at + 1], 'C')
end
each(invalidate, 4 + clears, #KEYS - 2, 9 + 2 * clears, begin_group, end_group)
-- The watermark advances last: an error above leaves some copies invalidated and the watermark as it was.
return each(put, 1, 3, 3, begin_group, end_group)

-- A relay's step: drops copies and moves the mark that says so, or does nothing, where the mark is not
-- the one expected. What it does are the other scripts, as functions of their KEYS and ARGV.
-- KEYS[1] the mark's cell, [2] and [3] its epoch, then epochs, then the cells to drop, then the log.
-- ARGV[2] and [3] what is expected: order and version, [4] life of a tombstone in ms, [5] the mark's
-- deadlines, [6] its value, [7] how many clears, [8] the first cell among the KEYS; then for each clear
-- the place of its epoch among the KEYS, the new one and a note; for each drop the places of its two
-- epochs, a version or '', and a note.
if refuses(ARGV[2], number(ARGV[3], 1)) then
  return 'R' .. epoch
end
local seed, head, entries = ARGV[1], KEYS[#KEYS - 1], KEYS[#KEYS]
local at = 9
for _ = 1, tonumber(ARGV[7]) do
  clear({KEYS[tonumber(ARGV[at])], head, entries}, {seed, ARGV[at + 1], ARGV[at + 2]})
  at = at + 3
end
for cell = tonumber(ARGV[8]), #KEYS - 2 do
  local own, common = KEYS[tonumber(ARGV[at])], KEYS[tonumber(ARGV[at + 1])]
  invalidate({KEYS[cell], own, common, head, entries}, {seed, ARGV[at + 2], ARGV[4], ARGV[at + 3]})
  at = at + 4
end
-- An error before has left drops made and the mark where it was; followers hear of it last.
return put({KEYS[1], KEYS[2], KEYS[3], head, entries},
  {seed, ARGV[2], ARGV[3], ARGV[4], ARGV[5], 'V', ARGV[6], ARGV[#ARGV]})

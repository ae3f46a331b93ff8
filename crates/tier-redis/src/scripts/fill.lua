-- Keeps a loaded value over its own lease. ARGV[2] token, [3] version, [4] deadlines, [5] state, [6] envelope.
local version = number(ARGV[3], 1)
local held = live and string.sub(cell, 18, 25)
if ARGV[2] == NONE or held ~= ARGV[2] or version < floor then
  return 'R' .. epoch
end
-- KEYS[4] the inboxes of those who wait for it. One that may not publish is found out by a look.
for _, inbox in ipairs(redis.pcall('SMEMBERS', KEYS[4])) do
  redis.pcall('PUBLISH', inbox, 'C' .. held)
end
keep(ARGV[5], version, ARGV[4], ARGV[6])
return 'K' .. epoch .. pack(version)

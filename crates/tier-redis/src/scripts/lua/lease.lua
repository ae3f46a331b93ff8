-- Returns the entry, or grants a lease. ARGV[2] is the token, [3] the time to live of the lease in ms,
-- [4] a version over which a lease is granted too, or ''. ARGV[5] is a token that the new one replaces,
-- because its holder is gone.
local token, ttl, over = ARGV[2], tonumber(ARGV[3]), ARGV[4]
if entry and (over == '' or number(over, 1) ~= floor) then
  return 'H' .. epoch .. cell
end
if not live or state == 'T' then
  write_marker('L', floor, token, ttl)
else
  local held = string.sub(cell, 18, 25)
  if held ~= NONE and held ~= ARGV[5] then
    token = held
  end
  if state == 'L' and now + ttl > number(cell, 50) then
    write_marker('L', floor, token, ttl)
  elseif held ~= token then
    redis.call('SETRANGE', KEYS[1], 17, token)
  end
end
return 'M' .. epoch .. token .. pack(next_version)

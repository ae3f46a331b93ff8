-- Returns the entry, or grants a lease.
--
-- ARGV 2    the token
-- ARGV 3    the time to live of the lease in ms
-- ARGV 4    an entry of this version does not prevent a lease; '' if any entry does
-- ARGV 5    the token of a holder that is gone: the new lease replaces its lease
-- the rest  as in `shared/cell.lua`
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

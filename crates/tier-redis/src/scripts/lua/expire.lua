-- Gives a value other deadlines.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the deadlines; 2: the key for the log
local function expire(epoch, key, at)
  local cell, deadlines = KEYS[key], ARGV[at]
  local state, version = look(cell, epoch)
  log(0, ARGV[at + 1])
  if state == 'V' then
    local life = math.min(number(deadlines, 25) - now, LONGEST_LIFE)
    if life <= 0 then
      redis.call('DEL', cell)
    else
      redis.call('SETRANGE', cell, 25, deadlines)
      redis.call('PEXPIRE', cell, life)
    end
  end
  return 'D' .. epoch .. (state == 'V' and '1' or '0') .. pack(version), key + 1, at + 2
end

-- Gives a value other deadlines.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the deadlines; 2: the key for the log, with its length
local function expire(epoch, key, at)
  local cell, deadlines = KEYS[key], ARGV[at]
  local state, version = open(pcall('GETRANGE', cell, 0, 56), epoch)
  if changes then
    changes[#changes + 1] = NONE .. ARGV[at + 1]
  end
  if state == 'V' then
    local life = math.min(unpack('>I8', deadlines, 25) - now, LONGEST_LIFE)
    if life <= 0 then
      call('DEL', cell)
    else
      call('SETRANGE', cell, 25, deadlines)
      call('PEXPIRE', cell, life)
    end
  end
  return 'D' .. epoch .. (state == 'V' and '1' or '0') .. pack('>I8', version), key + 1, at + 2
end

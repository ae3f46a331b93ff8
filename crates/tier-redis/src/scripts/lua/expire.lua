-- Gives a value other deadlines.
--
-- ARGV 2    the deadlines
-- the rest  as in `shared/cell.lua` and `shared/log.lua`
append_entry('K', 0)
if value then
  write(string.sub(cell, 1, 25) .. ARGV[2] .. string.sub(cell, 58), number(ARGV[2], 25))
end
return 'D' .. epoch .. (value and '1' or '0') .. pack(floor)

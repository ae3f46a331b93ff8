-- Drops the copy and kills the lease. ARGV[2] keep what is at least this version, or ''; [3] life of the tombstone in ms.
local version = floor
if ARGV[2] ~= '' then
  local given = number(ARGV[2], 1)
  tell('K', given)
  if (entry or (live and state == 'L')) and floor >= given then
    return 'D' .. epoch .. '0' .. pack(floor)
  end
  version = math.max(floor, given)
else
  tell('K', 0)
end
bare('T', version, NONE, tonumber(ARGV[3]))
return 'D' .. epoch .. (value and '1' or '0') .. pack(version)

-- Writes a value. ARGV[2] order, [3] version, [4] life of a tombstone in ms, [5] deadlines, [6] state, [7] envelope.
local order, version = ARGV[2], number(ARGV[3], 1)
if order == 'follow' then
  -- Told also where nothing changes here: a reader may have filled the new value before.
  tell('K', version)
  if not (entry or (live and state == 'L' and floor >= version)) then
    bare('T', math.max(floor, version), NONE, tonumber(ARGV[4]))
    return 'R' .. epoch
  end
  if floor >= version then
    return 'R' .. epoch
  end
elseif order == 'open' then
  tell('K', 0)
else
  if refuses(order, version) then
    return 'R' .. epoch .. (entry and cell or '')
  end
  version = next_version
  tell('K', version)
end
keep(ARGV[6], version, ARGV[5], ARGV[7])
return 'K' .. epoch .. pack(version)

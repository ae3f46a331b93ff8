-- The version of a change that this tier decides: above the clock, the cell's version, and every version that
-- was issued in the namespace before. The cell may be gone, and the clock of a host that took over may be
-- behind: with a lower version, copies elsewhere would pass for newer ones.
local function issue_version(floor)
  issued = math.min(math.max(micros, floor + 1, issued + 1), LAST)
  return issued
end

-- The version of a change that this tier decides: above the clock, the cell's version, and every version that
-- was issued in the namespace before. The cell may be gone, and the clock of a host that took over may be
-- behind: with a lower version, copies elsewhere would pass for newer ones.
--
-- KEYS 3                    the epoch of all tenants, which names the namespace
-- the last but one of KEYS  the head of the log; the last ARGV is '' for a namespace without a log
local function issue_version()
  if ARGV[#ARGV] == '' then
    return next_version
  end
  local head, field = KEYS[#KEYS - 1], 'issued:' .. KEYS[3]
  local issued = tonumber(redis.call('HGET', head, field) or 0)
  local version = math.min(math.max(next_version, issued + 1), LAST)
  redis.call('HSET', head, field, string.format('%.0f', version))
  return version
end

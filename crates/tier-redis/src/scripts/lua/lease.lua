-- Returns the entry, or grants a lease.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the token (8 bytes), the token of a holder that is gone and whose lease the new one replaces
--                 (8); then, if there is one, the version of an entry that does not prevent a lease (8);
--                 2: the time to live of the lease in ms, as text
local function lease(epoch, key, at)
  local cell, wanted, ttl = KEYS[key], ARGV[at], ARGV[at + 1]
  local bytes = pcall('GET', cell)
  local state, version, held, fresh, ends = open(bytes, epoch)
  if (state == 'V' or state == 'N') and (#wanted == 16 or unpack('>I8', wanted, 17) ~= version) then
    return 'H' .. epoch .. bytes, key + 1, at + 2
  end
  local token, gone = unpack('>c8c8', wanted)
  if not state or state == 'T' then
    store_marker(cell, epoch, 'L', version, token, ttl)
  else
    if held ~= NONE and held ~= gone then
      token = held
    end
    if state == 'L' and now + tonumber(ttl) > ends then
      store_marker(cell, epoch, 'L', version, token, ttl, fresh == NONE and held == token and NONE)
    elseif held ~= token then
      call('SETRANGE', cell, 17, token)
    end
  end
  local least = math.min(math.max(micros, version + 1), LAST)
  return 'M' .. epoch .. token .. pack('>I8', least), key + 1, at + 2
end

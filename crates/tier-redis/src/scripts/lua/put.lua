-- Writes a value.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the order (F follow, U unfenced, A always, N if there is no value, C if the value has this
--                 version), its version (8 bytes), the time to live of a tombstone in ms (8), the state (1);
--                 2: what follows the epoch in the new cell: no token, the deadlines, the envelope;
--                 3: its end in ms, as text; 4: the key for the log, with its length
local function put(epoch, key, at)
  local cell, order, given, ttl, tag = KEYS[key], unpack('>c1I8I8c1', ARGV[at])
  local state, floor = open(pcall('GETRANGE', cell, 0, 56), epoch)
  local entry = state == 'V' or state == 'N'
  local version = given
  if order ~= 'F' and order ~= 'U' then
    if (order == 'N' and state == 'V') or (order == 'C' and not (state == 'V' and floor == given)) then
      return 'R' .. epoch .. (entry and call('GET', cell) or ''), key + 1, at + 4
    end
    version = issue_version(floor)
  end
  local stored = pack('>I8', version)
  -- A value that follows is logged even if nothing changes here: a reader may have filled it already.
  if changes then
    changes[#changes + 1] = (order == 'U' and NONE or stored) .. ARGV[at + 3]
  end
  if order == 'F' and not (entry and floor < version) then
    if not entry and not (state == 'L' and floor >= version) then
      store_marker(cell, epoch, 'T', math.max(floor, version), NONE, string.format('%.0f', ttl))
    end
    return 'R' .. epoch, key + 1, at + 4
  end
  store(cell, tag, stored, epoch, ARGV[at + 1], ARGV[at + 2])
  return 'K' .. epoch .. stored, key + 1, at + 4
end

-- Writes a value.
--
-- KEYS of a cell  the cell
-- ARGV of a cell  1: the order (F follow, U unfenced, A always, N if there is no value, C if the value has this
--                 version), its version (8 bytes), the time to live of a tombstone in ms (8), the state (1);
--                 2: the content; 3: the key for the log
local function put(epoch, key, at)
  local cell, order, given, ttl, tag = KEYS[key], struct.unpack('>c1I8I8c1', ARGV[at])
  local content, name = ARGV[at + 1], ARGV[at + 2]
  local state, floor = look(cell, epoch)
  local entry = state == 'V' or state == 'N'
  local version = math.min(given, LAST)
  key, at = key + 1, at + 3
  if order == 'F' then
    -- Logged even if nothing changes here: a reader may have filled the new value already.
    log(version, name)
    if (entry or state == 'L') and floor >= version then
      return 'R' .. epoch, key, at
    end
    if not entry then
      write_marker(cell, epoch, 'T', math.max(floor, version), NONE, ttl)
      return 'R' .. epoch, key, at
    end
  elseif order == 'U' then
    log(0, name)
  else
    if (order == 'N' and state == 'V') or (order == 'C' and not (state == 'V' and floor == version)) then
      return 'R' .. epoch .. (entry and redis.call('GET', cell) or ''), key, at
    end
    version = issue_version(floor)
    log(version, name)
  end
  local stored = pack(version)
  write_entry(cell, epoch, tag, stored, content)
  return 'K' .. epoch .. stored, key, at
end

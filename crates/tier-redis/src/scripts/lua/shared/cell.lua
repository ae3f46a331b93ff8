-- Reads and writes one cell (byte table: the module `cell` of terrace-tier).
--
-- Each function that a script defines costs every call of it a fifth of a microsecond, so there are few. A number
-- that becomes the argument of a command costs a microsecond, so times come as text from the client.

-- The state of a cell, or nil if the bytes are no cell or a dead one. Then its version, which is 0 if the bytes are
-- no cell; its token; the point until which it is fresh, and its end.
local function open(bytes, epoch)
  if type(bytes) ~= 'string' or #bytes < 57 then
    return nil, 0
  end
  local state, version, of, token = unpack('>c1I8c8c8', bytes)
  if state ~= 'V' and state ~= 'N' and state ~= 'L' and state ~= 'T' then
    return nil, 0
  end
  local ends = unpack('>I8', bytes, 50)
  if of ~= epoch or ends <= now then
    state = nil
  end
  return state, math.min(version, LAST), token, string.sub(bytes, 34, 41), ends
end

-- Stores an entry. `state`, `version` and `epoch` are its head, and `content` is what follows: no token, the
-- deadlines, the envelope; `until_text` is its end in ms. Deletes the key instead if that time has passed.
local function store(key, state, version, epoch, content, until_text)
  if unpack('>I8', content, 33) <= now then
    call('DEL', key)
  else
    call('SET', key, state .. version .. epoch .. content, 'PXAT', until_text)
  end
end

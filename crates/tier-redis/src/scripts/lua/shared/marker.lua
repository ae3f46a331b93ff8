-- Stores a lease or a tombstone for `ttl`, a text in ms. Its deadlines are the end of its life, but a lease with a
-- waiter is marked by another `fresh`.
local function store_marker(key, epoch, state, version, token, ttl, fresh)
  local life = tonumber(ttl)
  local ends = now + life
  local at = ends < FOREVER and pack('>I8', ends) or string.rep('\255', 8)
  local cell = state .. pack('>I8', version) .. epoch .. token .. pack('>I8', now) .. (fresh or at) .. at .. at
  if life <= 0 then
    call('DEL', key)
  else
    call('SET', key, cell, 'PX', life > LONGEST_LIFE and LONGEST_LIFE or ttl)
  end
end

-- Stores a lease or a tombstone. Its deadlines are the end of its life, but a lease with a waiter is marked by
-- another `fresh`.
local function store_marker(key, epoch, state, version, token, ttl, fresh)
  local ends = now + ttl
  local at = ends < FOREVER and pack('>I8', ends) or string.rep('\255', 8)
  store(key, state .. pack('>I8', version) .. epoch .. token .. pack('>I8', now) .. (fresh or at) .. at .. at, ends)
end

-- Frees the memory of dead cells. A fill may have replaced a cell since the scan, and other programs may use
-- such keys, so the script unlinks only bytes that look like a cell of another epoch.
--
-- KEYS 1      the epoch of the cells
-- KEYS 2      the epoch of all tenants, or KEYS 1 again
-- KEYS 3, ..  the cells
local epoch = epoch_of(KEYS[1], KEYS[2])
local freed = 0
for at = 3, #KEYS do
  local head = redis.pcall('GETRANGE', KEYS[at], 0, 56)
  if epoch and type(head) == 'string' and #head == 57 and string.find(head, '^[VNLT]')
    and string.sub(head, 10, 17) ~= epoch then
    freed = freed + redis.call('UNLINK', KEYS[at])
  end
end
return freed

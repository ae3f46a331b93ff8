-- Frees the memory of dead cells. KEYS[1] the epoch of their owner, [2] that of all tenants, or again
-- [1], then the cells. Only bytes that look like a cell of another epoch go: a fill may have come
-- since the scan, and foreign keys are not ours.
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

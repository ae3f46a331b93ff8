-- Frees the memory of dead cells. A fill may have replaced a cell since the scan, and other programs may use
-- such keys, so the script unlinks only bytes that look like a cell of another epoch.
--
-- KEYS 1, 4, ..  the epoch of a cell
-- KEYS 2, 5, ..  the epoch of all tenants, or the same key again
-- KEYS 3, 6, ..  the cell
local freed, last, epoch = 0, nil, nil
for at = 3, #KEYS, 3 do
  if KEYS[at - 2] ~= last then
    last, epoch = KEYS[at - 2], epoch_of(KEYS[at - 2], KEYS[at - 1])
  end
  local head = pcall('GETRANGE', KEYS[at], 0, 56)
  if epoch and type(head) == 'string' and #head == 57 and string.find(head, '^[VNLT]')
    and string.sub(head, 10, 17) ~= epoch then
    freed = freed + call('UNLINK', KEYS[at])
  end
end
return freed

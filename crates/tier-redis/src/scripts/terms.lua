-- Registers a namespace's terms. KEYS[1] their key; ARGV[1] the terms, [2] how long they hold in ms.
-- Answers with the terms that hold.
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and held ~= ARGV[1] then
  return held
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]

-- Registers a namespace's terms. KEYS[1] their key; ARGV[1] the terms, [2] how long they hold in ms.
-- Answers with the terms that hold. A higher schema number takes over, in the same role and level.
local function parts(terms)
  local use, schema = string.match(terms, '^(.*) schema=(%d+) ')
  return use, tonumber(schema)
end

local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and held ~= ARGV[1] then
  local use, schema = parts(held)
  local our_use, our_schema = parts(ARGV[1])
  if not (use == our_use and schema < our_schema) then
    return held
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]

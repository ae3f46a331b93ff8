-- Registers the options of a namespace if it has none or the same ones. A higher schema number replaces a
-- lower one, if role and level are the same. Returns the options that are registered then.
--
-- KEYS 1  the options of the namespace
-- ARGV 1  the options to register
-- ARGV 2  how long they stay registered, in ms
local function parts(options)
  local use, schema = string.match(options, '^(.*) schema=(%d+) ')
  return use, tonumber(schema)
end

local registered = redis.pcall('GET', KEYS[1])
if type(registered) == 'string' and registered ~= ARGV[1] then
  local use, schema = parts(registered)
  local our_use, our_schema = parts(ARGV[1])
  if not (use == our_use and schema < our_schema) then
    return registered
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]

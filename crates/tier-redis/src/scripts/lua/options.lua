-- Registers the options of a namespace if it has none or the same ones. Returns the options that are
-- registered then.
--
-- KEYS 1  the options of the namespace
-- ARGV 1  the options to register
-- ARGV 2  how long they stay registered, in ms
local registered = redis.pcall('GET', KEYS[1])
if type(registered) == 'string' then
  -- An earlier version of the library also registered a schema number and a shape.
  registered = string.gsub(registered, ' schema=%d+ shape=%x+$', '')
  if registered ~= ARGV[1] then
    return registered
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]

-- The first write of a script that must work on a server whose memory is full. Such a server refuses commands
-- that may need memory, but not after the script has deleted something; a field that is not there will do.
--
-- the last but one of KEYS  the head of the log
redis.pcall('HDEL', KEYS[#KEYS - 1], '')


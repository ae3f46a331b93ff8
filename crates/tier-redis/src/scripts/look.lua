-- Looks at a lease for a process that waits for it. KEYS[4] who waits, [5] its holder's sign of life;
-- ARGV[2] token, [3] the inbox to announce the lease's end to, [4] for how long, in ms.
-- Answers one letter: C changed, A alive, F free, S silent.
if not live or string.sub(cell, 18, 25) ~= ARGV[2] then
  return 'C'
end
redis.call('SADD', KEYS[4], ARGV[3])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return read(KEYS[5]) or 'S'

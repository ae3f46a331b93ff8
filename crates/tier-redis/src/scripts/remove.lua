-- Deletes as the authority. ARGV[2] life of the tombstone in ms.
tell('K', next_version)
bare('T', next_version, NONE, tonumber(ARGV[2]))
return 'D' .. epoch .. (value and '1' or '0') .. pack(next_version)

-- An epoch ends 30 days after its namespace and tenant were last in use. Its cells are dead then.
local EPOCH_LIFE = 2592000000
-- No cell stays for longer than a year, whatever its deadline is.
local LONGEST_LIFE = 31536000000


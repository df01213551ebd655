-- KEYS: entry. ARGV: field, the most bytes of a value.
return stored(KEYS[1], ARGV[1], tonumber(ARGV[2]))

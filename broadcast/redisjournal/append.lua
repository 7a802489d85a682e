-- Appends entries. It returns the epoch, what open.lua has changed, and the IDs of the
-- entries. ARGV[3] is how many entries to keep; five values for each entry follow.
local reply = {epoch, changed}
for i = 4, #ARGV, 5 do
	-- The fields are always the same, in the same order: Redis then stores their names once.
	local id = redis.pcall('XADD', key, 'MAXLEN', '~', ARGV[3], '0-*', 'topic', ARGV[i], 'type', ARGV[i + 1],
		'from', ARGV[i + 2], 'data', ARGV[i + 3], 'binary', ARGV[i + 4])
	if type(id) == 'table' then
		return string.find(id.err, 'equal or smaller', 1, true) and foreign or id
	end
	reply[#reply + 1] = id
end
return reply

-- Reads the stream. It returns the epoch, what open.lua has changed, the ID of the oldest
-- entry that is kept (empty if none is), that of the newest entry that there ever was,
-- and up to ARGV[4] entries after ARGV[3].
--
-- All of it is as of one moment. A command beside the script would be as of another, and
-- in a transaction Redis refuses scripts when it has no memory left.
local info, stream = redis.call('XINFO', 'STREAM', key), {}
for i = 1, #info, 2 do
	stream[info[i]] = info[i + 1]
end
local oldest, newest = stream['first-entry'], stream['last-generated-id']
if not string.match(newest, '^0%-') then
	return foreign
end
return {epoch, changed, oldest and oldest[1] or '', newest,
	redis.call('XRANGE', key, '(' .. ARGV[3], '+', 'COUNT', ARGV[4])}

-- Returns the epoch, what open.lua did, the IDs of the oldest entry that is kept
-- (empty: none) and of the newest there ever was, and up to ARGV[4] entries behind
-- ARGV[3]: all as of one moment. It would be two with a command beside the script,
-- and in a transaction Redis refuses scripts where it has no memory left.
local info, stream = redis.call('XINFO', 'STREAM', key), {}
for i = 1, #info, 2 do
	stream[info[i]] = info[i + 1]
end
local oldest, newest = stream['first-entry'], stream['last-generated-id']
if not string.match(newest, '^0%-') then
	return foreign
end
return {epoch, news, oldest and oldest[1] or '', newest,
	redis.call('XRANGE', key, '(' .. ARGV[3], '+', 'COUNT', ARGV[4])}

-- Reads the stream. It returns the epoch, what open.lua has changed, the run_id, the epoch's
-- group, the ID of the oldest entry that is kept (empty if none is), that of the newest entry
-- that there ever was, the link of that entry if it is kept, up to ARGV[9] entries after ARGV[8], and up to which
-- sequence entries of another epoch, ARGV[10], are still there.
--
-- All of it is as of one moment. A command beside the script would be as of another, and
-- in a transaction Redis refuses scripts when it has no memory left.
local stream = state()
local oldest, last, newest = stream['first-entry'], stream['last-entry'], stream['last-generated-id']
if not sequence(newest) then
	return foreign
end

-- went_back returns why a new epoch must begin if the stream has lost entries that this node
-- has seen. One that ends later may have lost some too, and have got others in their place.
local function went_back()
	if less(sequence(newest), ARGV[4]) then
		return 'lost'
	end
	if ARGV[6] == '' then
		return nil
	end
	local entry = call('XRANGE', key, '0-' .. ARGV[5], '0-' .. ARGV[5])[1]
	return entry and string.match(link(entry[2]), '^[^ ]*') ~= ARGV[6] and 'forked'
end
local why = epoch == ARGV[3] and went_back()
if why then
	begin_epoch(why)
end

-- survived returns how far the epoch of a position went whose entries are still there, or ''.
local function survived(of)
	if of == '' or of == epoch then
		return ''
	end
	local consumers = redis.pcall('XINFO', 'CONSUMERS', key, group)
	for _, c in ipairs(consumers.err and {} or consumers) do
		local before, last = string.match(c[2], '^after:(%x+):(%d+)$')
		if before == of then
			return last
		end
	end
	return ''
end

local entries = {}
if ARGV[9] ~= '0' then
	entries = call('XRANGE', key, '(' .. ARGV[8], '+', 'COUNT', ARGV[9])
end
return {epoch, changed, run_id, group, oldest and oldest[1] or '', newest,
	last and last[1] == newest and link(last[2]) or '', entries, survived(ARGV[10])}

-- Begins the script that appends. The lines before it define what the node knows: known_epoch,
-- known_run_id and known_group (empty if it knows nothing), and max_entries.

-- add appends entries after the last one that is kept, or nil, and returns a reply that begins
-- with these values. ARGV[first] is a tag for all that are added; then follows for each entry
-- the number of its fields, and their names and values. The reply ends with the ID of each
-- entry, or the error that refused it.
--
-- The first field of an entry is its link: the tag of the call that added it. The first entry
-- of a call also has the tag of the entry before it, and the epoch. So a tail can tell that one
-- entry continues another.
local function add(reply, epoch, last, first)
	local tag, before, added = ARGV[first], '', false
	if last and last[2][1] == 'link' then
		before = string.match(last[2][2], '^[^ ]*')
	end
	local link, i, n, newest = tag .. ' ' .. before .. ' ' .. epoch, first + 1, #ARGV
	while i <= n do
		local next, id = i + 2 * ARGV[i] + 1
		if next > n then -- the last one trims
			id = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', max_entries, '0-*', 'link', link, unpack(ARGV, i + 1, next - 1))
		else
			id = redis.pcall('XADD', KEYS[1], '0-*', 'link', link, unpack(ARGV, i + 1, next - 1))
		end
		if type(id) ~= 'table' then
			added, link, newest = true, tag, id
		elseif string.find(id.err, 'equal or smaller', 1, true) then
			return {err = 'FOREIGN an entry that no Journal added has an ID of its own, so that no further entry can have an ID:'
				.. ' delete the key, or set Journal.Key to a key that only Journals use'}
		elseif no_permission('XADD', id.err) then
			return no_permission('XADD', id.err)
		elseif added or string.sub(id.err, 1, 4) == 'ERR ' then
			id = id.err -- of this entry alone
		else
			return id
		end
		reply[#reply + 1] = id
		i = next
	end
	if added and KEYS[2] then -- a witness that lags behind the stream is not wrong
		redis.pcall('SET', KEYS[2], witness_text(epoch, newest, tag))
	end
	return reply
end

-- unchanged reports whether the stream, which ends with this entry, is still what the node has
-- had verified: the witness says the same of it, or at least the epoch's group is there.
local function unchanged(last)
	if not KEYS[2] then
		return not redis.pcall('XPENDING', KEYS[1], known_group).err
	end
	local tag = last[2][1] == 'link' and string.match(last[2][2], '^[^ ]*')
	return tag and redis.pcall('GET', KEYS[2]) == witness_text(known_epoch, last[1], tag)
end

-- With an empty ARGV[1] the node has had the epoch verified within the last second. Redis knows
-- this text only if it has run it before with other arguments, which verify the epoch in this
-- very process: it keeps no scripts when it ends, and gives none to a replica. So only the
-- stream can have changed. The witness shows that it has not, and the last entry that it goes
-- on after what this node has seen, which is ARGV[2]. Otherwise the reply is empty.
if ARGV[1] == '' then
	local last = redis.pcall('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
	local newest = last and string.match(last[1], '^0%-(%d+)$')
	if not newest or #newest < #ARGV[2] or #newest == #ARGV[2] and newest < ARGV[2] or not unchanged(last) then
		return {}
	end
	return add({known_epoch, 'unverified', known_run_id, known_group}, known_epoch, last, 3)
end

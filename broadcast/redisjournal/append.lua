-- Appends entries. ARGV[8] is how many entries to keep and ARGV[9] a tag for all that are
-- added; then follows for each entry the number of its fields, and their names and values.
--
-- It returns the epoch, what open.lua has changed, the run_id, and for each entry its ID or
-- the error that refused it.
local max_entries, tag = ARGV[8], ARGV[9]
local last, stream = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
if last.err then -- a user without XREVRANGE
	stream = state()
	last = stream['last-entry']
else
	last = last[1]
end
if epoch == ARGV[3] then
	-- The stream must go on after what this node has seen. The last entry tells that, unless
	-- it was deleted.
	local newest = last and sequence(last[1])
	if not newest or less(newest, ARGV[4]) then
		newest = sequence((stream or state())['last-generated-id'])
	end
	if not newest then
		return foreign
	end
	if less(newest, ARGV[4]) then
		begin_epoch('lost')
	end
end

-- An entry has the tag of the call that added it. The first one of a call also has the tag of
-- the entry before it, and the epoch. So a tail can tell that one entry continues another.
local link_value = tag .. ' ' .. (last and string.match(link(last[2]), '^[^ ]*') or '') .. ' ' .. epoch

local reply, added = {epoch, changed, run_id}, false
local i = 10
while i <= #ARGV do
	local fields = 2 * ARGV[i]
	local command = {'XADD', key, 'MAXLEN', '~', max_entries, '0-*'}
	for j = i + 1, i + fields do
		command[#command + 1] = ARGV[j]
	end
	command[#command + 1] = 'link'
	command[#command + 1] = link_value
	local id = redis.pcall(unpack(command))
	if type(id) ~= 'table' then
		added, link_value = true, tag
	elseif added or string.sub(id.err, 1, 4) == 'ERR ' and not string.find(id.err, 'equal or smaller', 1, true) then
		id = id.err -- of this entry alone
	else
		return string.find(id.err, 'equal or smaller', 1, true) and foreign or id
	end
	reply[#reply + 1] = id
	i = i + fields + 1
end
return reply

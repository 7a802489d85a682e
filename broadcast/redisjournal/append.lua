-- Appends entries. It returns the epoch, what open.lua has changed, the run_id, the epoch's
-- group, and for each entry its ID or the error that refused it.
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

return add({epoch, changed, run_id, group}, epoch, last, 8)

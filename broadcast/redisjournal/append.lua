-- Appends entries. It returns the epoch, what open.lua has changed, the run_id, the epoch's
-- group, and for each entry its ID or the error that refused it.
local stream = state()
local last = stream['last-entry']
if epoch == ARGV[3] then
	-- The stream must go on after what this node has seen.
	local newest = sequence(stream['last-generated-id'])
	if not newest then
		return foreign
	end
	if less(newest, ARGV[4]) then
		begin_epoch('lost')
	end
end

return add({epoch, changed, run_id, group}, epoch, last, 8)

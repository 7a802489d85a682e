-- Begins each script. It makes sure that the stream exists, that a Journal created it,
-- and that its epoch belongs to the current history of the engine.
--
-- KEYS[1] is the stream, ARGV[1] the epoch for a new one, ARGV[2] is 1 if the engine is
-- durable. For the script that follows it defines key, epoch, changed ('', 'created' or
-- 'replaced') and foreign (an error).
local key, changed = KEYS[1], ''

-- Redis gets another run_id with each start, and another master_replid2 each time that a
-- replica becomes the master. The run_id alone is not enough: a master keeps it when it
-- becomes a replica, loses what only it had, and becomes the master again.
local info = redis.call('INFO', 'server', 'replication')
local run_id, replid2 = string.match(info, 'run_id:(%x+)'), string.match(info, 'master_replid2:(%x+)')
if not run_id or not replid2 then
	return {err = 'NOHISTORY the INFO of this engine has no run_id or no master_replid2, which show whether it has lost entries'}
end
local history = run_id .. ':' .. replid2

local foreign = {err = 'FOREIGN an entry that no Journal added has an ID of its own, so that no further entry can have an ID:'
	.. ' delete the key, or set Journal.Key to a key that only Journals use'}

-- The epoch and its history are the name of a consumer group.
local epoch, epoch_history, group
local kind = redis.call('TYPE', key).ok
if kind == 'stream' then
	for _, g in ipairs(redis.call('XINFO', 'GROUPS', key)) do
		local e, h = string.match(g[2], '^fanfare:(%x+):(%x+:%x+)$')
		if e then
			epoch, epoch_history, group = e, h, g[2]
		end
	end
	if not epoch then
		return {err = 'NOTJOURNAL no Journal created the stream: delete it, or set Journal.Key to a key that only Journals use'}
	end
elseif kind ~= 'none' then
	return {err = 'WRONGTYPE the key holds a ' .. kind .. ': delete it, or set Journal.Key to a key that only Journals use'}
end

if not epoch or epoch_history ~= history and ARGV[2] ~= '1' then
	changed = epoch and 'replaced' or 'created'
	epoch = ARGV[1]
	redis.call('XGROUP', 'CREATE', key, 'fanfare:' .. epoch .. ':' .. history, '$', 'MKSTREAM')
	if group then
		redis.call('XGROUP', 'DESTROY', key, group)
	end
end

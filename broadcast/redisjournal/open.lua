-- What each script begins with: it makes sure that the stream is there, that it is
-- a journal's, and that its epoch belongs to the history that the engine has now.
--
-- KEYS[1] is the stream, ARGV[1] the epoch of a new one, ARGV[2] is 1 if the engine
-- is durable.
local key, epoch, group, before, news = KEYS[1], nil, nil, nil, ''

-- Each start of Redis has another run_id, and each time that a replica becomes the
-- master its master_replid2 is another. The run_id alone would not do: a master that
-- became a replica, lost what only it had, and is the master again has the same.
local info = redis.call('INFO', 'server', 'replication')
local run, was = string.match(info, 'run_id:(%x+)'), string.match(info, 'master_replid2:(%x+)')
if not run or not was then
	return {err = 'NOHISTORY the INFO of this engine has no run_id or no master_replid2, so that nobody can tell what it has lost'}
end
local history = run .. ':' .. was

local foreign = {err = 'FOREIGN somebody else added an entry under an ID of its own, so that no further one can have an ID:'
	.. ' delete the key, or let the Journal have a key of its own'}

local kind = redis.call('TYPE', key).ok
if kind == 'stream' then
	for _, g in ipairs(redis.call('XINFO', 'GROUPS', key)) do
		local e, h = string.match(g[2], '^fanfare:(%x+):(%x+:%x+)$')
		if e then
			epoch, before, group = e, h, g[2]
		end
	end
	if not epoch then
		return {err = 'NOTJOURNAL no Journal made the stream: delete it, or let the Journal have a key of its own'}
	end
elseif kind ~= 'none' then
	return {err = 'WRONGTYPE the key holds a ' .. kind .. ': delete it, or let the Journal have a key of its own'}
end

if not epoch or before ~= history and ARGV[2] ~= '1' then
	epoch, news = ARGV[1], epoch and 'doubted' or 'made'
	redis.call('XGROUP', 'CREATE', key, 'fanfare:' .. epoch .. ':' .. history, '$', 'MKSTREAM')
	if group then
		redis.call('XGROUP', 'DESTROY', key, group)
	end
end

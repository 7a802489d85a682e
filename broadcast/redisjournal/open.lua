-- Begins each script. It makes sure that the stream exists, that a Journal created it,
-- and that its epoch belongs to the current history of the engine and has not been left.
--
-- KEYS[1] is the stream, KEYS[2] its witness. ARGV[1] is the number of a new epoch, ARGV[2] is 1 if the engine
-- is durable. The others are what the node knows: ARGV[3] the epoch of the stream, ARGV[4]
-- the highest sequence that it has seen in that epoch, ARGV[5] the highest that one of its
-- tails has read, ARGV[6] the tag of that entry, and ARGV[7] the epochs that the stream has
-- left, each with a comma before and after it.
--
-- For the script that follows it defines key, epoch, group, run_id, changed (why there is a new
-- epoch, or ''), foreign (an error) and some functions.
local key, changed = KEYS[1], ''

-- call calls a command of Redis, and says which one if the user may not run it.
local function call(command, ...)
	local result = redis.pcall(command, ...)
	if type(result) == 'table' and result.err then
		error(no_permission(command, result.err) or result)
	end
	return result
end

local info = call('INFO', 'server', 'replication')
local function read(name)
	local _, before = string.find(info, name, 1, true)
	if not before then return nil end
	return string.sub(info, before + 1, string.find(info, '\r', before, true) - 1)
end

-- A replica may lag behind for any time, and no new epoch can begin there.
if read('\nrole:') == 'slave' then
	return {err = 'READONLY this Redis is a replica, or has become one: the journal needs the master'}
end

-- Redis gets another run_id with each start, and another master_replid2 each time that a
-- replica becomes the master. The run_id alone is not enough: a master keeps it when it
-- becomes a replica, loses what only it had, and becomes the master again.
local run_id, replid2 = read('\nrun_id:'), read('\nmaster_replid2:')
if not run_id or not replid2 then
	return {err = 'NOHISTORY the INFO of this engine has no run_id or no master_replid2, which show whether it has lost entries'}
end
local history = run_id .. ':' .. replid2

local foreign = {err = 'FOREIGN an entry that no Journal added has an ID of its own, so that no further entry can have an ID:'
	.. ' delete the key, or set Journal.Key to a key that only Journals use'}

-- sequence returns the sequence in an entry's ID, as text; nil if the entry is foreign.
local function sequence(id)
	return string.match(id, '^0%-(%d+)$')
end

-- less compares sequences. They are text, since numbers of Lua have 53 bits.
local function less(a, b)
	return #a < #b or #a == #b and a < b
end

-- link returns the field of an entry that links it to the one before, or ''.
local function link(fields)
	return fields[1] == 'link' and fields[2] or ''
end

-- state returns what XINFO STREAM returns, by name.
local stream_state
local function state()
	if not stream_state then
		local list = call('XINFO', 'STREAM', key)
		stream_state = {}
		for i = 1, #list, 2 do
			stream_state[list[i]] = list[i + 1]
		end
	end
	return stream_state
end

-- The epoch and its history are the name of a consumer group. Another group says that the
-- stream has a witness, which streams of earlier versions have not.
local witnessed = 'fanfare:witnessed'
local epoch, epoch_history, group, has_witness
local kind = call('TYPE', key).ok
if kind == 'stream' then
	for _, g in ipairs(call('XINFO', 'GROUPS', key)) do
		local e, h = string.match(g[2], '^fanfare:(%x+):(%x+:%x+)$')
		if e then
			epoch, epoch_history, group = e, h, g[2]
		end
		has_witness = has_witness or g[2] == witnessed
	end
	if not epoch then
		return {err = 'NOTJOURNAL no Journal created the stream: delete it, or set Journal.Key to a key that only Journals use'}
	end
elseif kind ~= 'none' then
	return {err = 'WRONGTYPE the key holds a ' .. kind .. ': delete it, or set Journal.Key to a key that only Journals use'}
end

-- begin_epoch gives the stream a new epoch, and creates it if there is none. The name of a
-- consumer of the epoch's group says which epoch was before and how far it went: these entries
-- keep their sequences. Where others were added in their place, that is not known.
local function begin_epoch(why)
	local old, before, newest = group, epoch, '0-0'
	if old then
		newest = state()['last-generated-id']
	end
	if KEYS[2] then
		local result = use_witness('SET', witness_text(ARGV[1], newest, ''))
		if result.err then
			error(result)
		end
	end
	changed, epoch = why, ARGV[1]
	group = 'fanfare:' .. epoch .. ':' .. history
	call('XGROUP', 'CREATE', key, group, '$', 'MKSTREAM')
	if old then
		call('XGROUP', 'DESTROY', key, old)
	end
	if before and why ~= 'forked' and sequence(newest) then
		redis.pcall('XGROUP', 'CREATECONSUMER', key, group, 'after:' .. before .. ':' .. sequence(newest))
	end
	if KEYS[2] and not has_witness then
		call('XGROUP', 'CREATE', key, witnessed, '$')
	end
	stream_state = nil
end

-- contradiction returns why the witness demands a new epoch, or nil. It begins to keep one of a
-- stream that has none yet.
local function contradiction()
	local witness, stream = use_witness('GET'), state()
	if not witness then
		if has_witness and ARGV[2] ~= '1' then
			return 'unwitnessed'
		end
		-- While Redis refuses writes, tails still read.
		local result = use_witness('SET', witness_text(epoch, stream['last-generated-id'], ''))
		if not result.err and not has_witness then
			call('XGROUP', 'CREATE', key, witnessed, '$')
		end
		return nil
	end
	if witness.err then
		error(witness)
	end
	local its_epoch, last, tag = string.match(witness, '^(%x+) (%S+) (%S*)$')
	if its_epoch ~= epoch then
		return 'lost'
	end
	local newest, seen = sequence(stream['last-generated-id']), sequence(last)
	if not newest or not seen then -- a foreign entry, after which the stream cannot go on
		return nil
	end
	if less(newest, seen) then
		return 'lost'
	end
	local entry = stream['last-entry']
	if not entry or entry[1] ~= last then
		entry = call('XRANGE', key, last, last)[1]
	end
	if tag ~= '' and entry and string.match(link(entry[2]), '^[^ ]*') ~= tag then
		return 'forked'
	end
	return nil
end

if not epoch then
	begin_epoch('created')
elseif epoch_history ~= history and ARGV[2] ~= '1' then
	begin_epoch('replaced')
elseif ARGV[7] ~= '' and string.find(ARGV[7], ',' .. epoch .. ',', 1, true) then
	begin_epoch('returned')
elseif KEYS[2] then
	local why = contradiction()
	if why then
		begin_epoch(why)
	end
end

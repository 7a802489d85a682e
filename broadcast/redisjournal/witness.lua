-- The witness is a string beside the stream, under KEYS[2]. Each script that adds entries or
-- begins an epoch records there, in the same moment, how far the stream goes: the epoch, the ID
-- of the last entry, and its tag (empty if it is not known). So it shows that the stream was
-- replaced by an older copy, also to a node that has seen nothing before.
--
-- Without KEYS[2] the user may not use it, and the scripts do without.

-- use_witness calls a command on the witness. An error about a permission makes the Journal
-- send the script again without KEYS[2], so nothing may have been changed yet.
local function use_witness(command, ...)
	local result = redis.pcall(command, KEYS[2], ...)
	local text = type(result) == 'table' and result.err
	if text and no_permission(command, text) then
		error({err = 'NOPERM the user may not run ' .. command .. ' on the key ' .. KEYS[2]})
	elseif text and string.sub(text, 1, 9) == 'WRONGTYPE' then
		error({err = 'WRONGTYPE the key ' .. KEYS[2] .. ' holds something else than the witness of a journal: delete it'})
	end
	return result
end

-- witness_text returns what the witness says of a stream that goes so far.
local function witness_text(epoch, last, tag)
	return epoch .. ' ' .. last .. ' ' .. tag
end

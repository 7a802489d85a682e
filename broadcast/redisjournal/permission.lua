-- no_permission returns an error that names the command if this one says that the user may not
-- run it, else nil.
local function no_permission(command, text)
	if string.find(text, "can't run this command", 1, true) then
		return {err = 'NOPERM the user may not run ' .. command .. ', which the journal needs: allow it in the ACL of Redis'}
	end
end

-- What the accounts of claims have used now; without claims the state of the ledger alone.
-- Arguments after the guard's: claims.
if guard(false) then
  return answer('Lost')
end
local claims = read_claims()
if closed() and #claims > 0 then
  return answer('Closed')
end
local reply = answer('Done')
for _, claim in ipairs(claims) do
  if not load(claim) then
    return answer('Outdated')
  end
  append_usage(reply, claim)
end
return reply

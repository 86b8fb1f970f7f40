-- Extends leases. Arguments after the guard's: lease in ms, number of attempts, their ids. Returns those that are no
-- longer reserved. While the ledger is closed no lease ends.
if guard(false) then
  return answer('Lost')
end
local lease = number()
if not closed() then
  sweep(1000)
end
local gone = {}
for _ = 1, number() do
  local id = text()
  local attempt, ends = attempt_of(id), redis.call('ZSCORE', leases, id)
  if attempt and attempt.state == 'reserved' and ends and (closed() or tonumber(ends) >= now) then
    redis.call('ZADD', leases, whole(now + lease), id)
  else
    gone[#gone + 1] = id
  end
end
local reply = answer('Done')
for _, id in ipairs(gone) do
  reply[#reply + 1] = id
end
return reply

-- Gives back reservations whose answer never came, and leaves a tombstone for those that come later.
-- Arguments after the guard's: number of attempts, their ids.
if guard(false) then
  return answer('Lost')
end
if closed() then
  return answer('Closed')
end
local any = false
for _ = 1, number() do
  local id = text()
  local attempt = attempt_of(id)
  -- Of one that expired, the owner was too late to say so, but lives and sent nothing.
  local expired = attempt and attempt.state == 'ended' and attempt.basis == 'Expired'
  if not attempt or attempt.state == 'reserved' or expired then
    for _, entry in ipairs(attempt and attempt.entries or {}) do
      if expired then
        change(entry.account, entry.slot, entry.rolling, -entry.settled, 0, entry.ends)
      else
        change(entry.account, entry.slot, entry.rolling, 0, -entry.amount, entry.ends)
      end
    end
    save(id, { state = 'abandoned', revision = 0, basis = 'Abandoned', option = 0, granted = 0, gen = ledger.gen, entries = {} })
    redis.call('ZREM', leases, id)
    any = true
  end
end
if #changed > 0 then
  flush()
elseif any then
  advance()
end
return answer('Done')

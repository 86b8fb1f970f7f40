-- Turns reservations into spend, corrects former settlements, records spend of attempts that are not known.
-- Arguments after the guard's: number of settlements, for each: id, revision, basis, generation of its receipt, number of
-- entries, for each: account, slot, measure, reserved, rolling, settled. Returns the slots touched that are windows of their
-- own.
if guard(false) then
  return answer('Lost')
end
if closed() then
  return answer('Closed')
end

local function read_entries()
  local entries = {}
  for i = 1, number() do
    entries[i] = {
      account = text(), slot = text(), measure = text(), amount = number(), rolling = text(), settled = number(), ends = 0,
    }
    if entries[i].measure == 'slots' then
      entries[i].settled = 0
    end
  end
  return entries
end

local touched, touched_ids = {}, {}
local any = false
for _ = 1, number() do
  local id, revision, basis, gen = text(), number(), text(), number()
  local entries = read_entries()
  local attempt = attempt_of(id)
  if not attempt or attempt.state == 'abandoned' then
    attempt = { state = 'unknown', revision = 0, option = 0, granted = 0, gen = gen, entries = entries }
  end
  if attempt.state ~= 'ended' or revision > attempt.revision then
    for i, entry in ipairs(attempt.entries) do
      local settled = entries[i] and entries[i].settled or 0
      local former = attempt.state == 'ended' and entry.settled or 0
      local given_back = attempt.state == 'reserved' and entry.amount or 0
      change(entry.account, entry.slot, entry.rolling, settled - former, -given_back, entry.ends)
      entry.settled = settled
    end
    attempt.state, attempt.revision, attempt.basis = 'ended', revision, basis
    save(id, attempt)
    redis.call('ZREM', leases, id)
    any = true
  end
  for _, entry in ipairs(entries) do
    local name = entry.slot .. ' ' .. entry.account
    if entry.rolling == '0' and not touched_ids[name] then
      touched_ids[name] = true
      touched[#touched + 1] = entry
    end
  end
end
if #changed > 0 then
  flush()
elseif any then
  advance()
end

local reply = answer('Done')
for _, entry in ipairs(touched) do
  local found = slot_of(entry.account, entry.slot)
  reply[#reply + 1] = entry.account
  reply[#reply + 1] = entry.slot
  reply[#reply + 1] = found.spent
  reply[#reply + 1] = found.reserved
  reply[#reply + 1] = entry.slot ~= '0' and found.ends > 0 and found.ends or -1
end
return reply

-- Takes what callers saw of a ledger that lost data, and claims the reservations that live on.
-- Arguments after the guard's: number of usages, for each: account, slot, spent, reserved, end of the slot (0: unknown),
-- sequence, rolling (1: a total over the span, 0: of this slot alone); number of live attempts, for each: id, lease in ms,
-- number of entries, for each: account, slot, measure, reserved, rolling.
guard(true)

local function known_up_to(fields, name)
  return tonumber(fields[name] or ledger.from)
end

local function take_latest(key, fields, seen)
  local slot, known = seen.slot, 'k' .. seen.slot
  if seen.sequence > known_up_to(fields, known) then
    local spent = tonumber(fields['s' .. slot] or 0) + seen.spent - tonumber(fields['b' .. slot] or 0)
    redis.call('HSET', key, 's' .. slot, whole(math.max(0, math.min(MOST, spent))), 'b' .. slot, whole(seen.spent),
      'u' .. slot, whole(seen.reserved), known, whole(seen.sequence))
    if not closed() then
      level(key, all_fields(key), slot)
    end
  end
end

-- A sum replaces what all buckets began with; what was added to them since stays.
local function take_latest_sum(key, fields, seen)
  if seen.sequence <= known_up_to(fields, 'k') then
    return
  end
  local claimed, rest = 0, { [seen.slot] = 0 }
  for field, value in pairs(fields) do
    local kind, slot = string.match(field, '^([sblc])(%d+)$')
    if kind == 'c' then
      claimed = claimed + tonumber(value)
    elseif kind then
      rest[slot] = (rest[slot] or 0) + (kind == 's' and 1 or -1) * tonumber(value)
    end
  end
  for slot, spent in pairs(rest) do
    redis.call('HDEL', key, 'b' .. slot, 'u' .. slot, 'l' .. slot, 'c' .. slot)
    redis.call('HSET', key, 's' .. slot, whole(math.max(0, spent)))
  end
  local spent = math.max(0, rest[seen.slot]) + seen.spent
  redis.call('HSET', key, 's' .. seen.slot, whole(math.min(MOST, spent)), 'b' .. seen.slot, whole(seen.spent),
    'u' .. seen.slot, whole(seen.reserved), 'c' .. seen.slot, whole(claimed), 'k', whole(seen.sequence), 'kb', seen.slot)
  if not closed() then
    level(key, all_fields(key), seen.slot)
  end
end

-- Where it cannot be told what would be counted twice: the account was used since data was lost.
local function take_larger(key, fields, seen)
  local spent = tonumber(fields['s' .. seen.slot] or 0)
  local total = spent
  if seen.rolling then
    total = 0
    for field, value in pairs(fields) do
      if string.match(field, '^s%d+$') then
        total = total + tonumber(value)
      end
    end
  end
  if seen.spent > total then
    redis.call('HSET', key, 's' .. seen.slot, whole(math.min(MOST, spent + seen.spent - total)))
  end
end

local function take(name, seen)
  local held = seen.slot == '0'
  local ends = (seen.ends > 0 or held) and seen.ends or now + UNKNOWN_END_MS
  local keep = 2 * ends - tonumber(seen.slot)
  if seen.sequence > ledger.start or (keep < now and not held) then
    return -- it is of this generation, or of a window that nobody counts any more
  end
  read_account(name)
  local key = key_of(name)
  local fields = all_fields(key)
  if not fields['g'] then
    fields['g'] = closed() and restoring_mark() or mark()
    redis.call('HSET', key, 'g', fields['g'])
  end
  if fields['z'] then
    if not held then
      take_larger(key, fields, seen)
    end
  elseif seen.rolling then
    take_latest_sum(key, fields, seen)
  else
    take_latest(key, fields, seen)
  end
  redis.call('HDEL', key, 't')
  if not held then
    redis.call('HSET', key, 'e' .. seen.slot, whole(ends))
    if keep - now > redis.call('PTTL', key) then
      redis.call('PEXPIREAT', key, whole(keep))
    end
  end
end

for _ = 1, number() do
  local name = text()
  take(name, { slot = text(), spent = number(), reserved = number(), ends = number(), sequence = number(), rolling = text() == '1' })
end

local claimed = {}
for _ = 1, number() do
  local id, lease = text(), number()
  local entries = {}
  for i = 1, number() do
    entries[i] = {
      account = text(), slot = text(), measure = text(), amount = number(), rolling = text(), ends = 0, settled = 0,
    }
  end
  local attempt = stored_attempt(id)
  local mine = attempt and attempt.gen == ledger.gen
  if not attempt or (attempt.state == 'reserved' and not mine) then
    for _, entry in ipairs(entries) do
      change(entry.account, entry.slot, entry.rolling, 0, entry.amount, entry.ends)
      local key = key_of(entry.account)
      local slot = entry.rolling == '1' and redis.call('HGET', key, 'kb') or entry.slot
      redis.call('HINCRBY', key, 'c' .. slot, whole(entry.amount))
      claimed[#claimed + 1] = { key = key, slot = slot }
    end
    save(id, {
      state = 'reserved', revision = 0, basis = '', option = attempt and attempt.option or 0,
      granted = attempt and attempt.granted or 0, gen = ledger.gen, entries = entries,
    })
  end
  if not attempt or attempt.state == 'reserved' then
    redis.call('ZADD', leases, whole(now + lease), id)
  end
end
flush()
if not closed() then
  -- Late: what stood for it in the spend goes.
  for _, claim in ipairs(claimed) do
    level(claim.key, all_fields(claim.key), claim.slot)
  end
end
return answer('Done')
